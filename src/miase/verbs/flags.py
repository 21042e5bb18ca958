"""Flags that several verbs share."""

from typing import Annotated

from cyclopts import Parameter

Quiet = Annotated[bool, Parameter(name=("-q", "--quiet"))]
