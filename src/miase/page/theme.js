// Light or dark: as the system has it, until the button says otherwise.

const button = document.getElementById("theme");
const root = document.documentElement;

const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);

function show(name) {
  if (name) root.dataset.theme = name;
  button.setAttribute("aria-pressed", isDark());
}

button.addEventListener("click", () => {
  const name = isDark() ? "light" : "dark";
  localStorage.setItem("theme", name);
  show(name);
});

show(localStorage.getItem("theme"));
