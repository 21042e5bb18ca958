"""Every exception that miase raises on purpose, under one base class.

Each message is one sentence or two that say what was got, what is allowed and what to do; the command line
prints the message and nothing else.

    MiaseError
    +-- ConfigError      a setting, flag or TOML key that is not allowed
    +-- AudioError       a sound file that cannot be read or written, or samples that cannot be used
    |   +-- StorageError     a sound file that cannot be written on, as on a full disk
    +-- CorpusError      a folder of recordings that cannot serve as asked
    +-- WeightsError     weights that are missing, damaged or do not fit their configuration
    +-- TrainingError    a training run that cannot start, resume or go on
    +-- EvaluationError  estimates and references that cannot be compared
    +-- ServiceError     a service that cannot start, or a request that it refuses
"""


class MiaseError(Exception):
    """Base class of all errors that miase raises on purpose."""


class ConfigError(MiaseError):
    """A setting, flag or TOML key is not allowed."""


class AudioError(MiaseError):
    """A sound file cannot be read or written, or its samples cannot be used."""


class StorageError(AudioError):
    """A sound file cannot be written on; as a rule the disk is full."""


class CorpusError(MiaseError):
    """A folder of recordings cannot serve as asked."""


class WeightsError(MiaseError):
    """Weights are missing, damaged or do not fit their configuration."""


class TrainingError(MiaseError):
    """A training run cannot start, resume or go on."""


class EvaluationError(MiaseError):
    """Estimates and references cannot be compared."""


class ServiceError(MiaseError):
    """The service cannot start, or refuses a request."""
