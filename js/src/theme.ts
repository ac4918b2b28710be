/** The look of every view: one style sheet, and the host's light or dark. */
import css from "./theme.css";

export type Theme = "light" | "dark";

/** The host's theme, by what JupyterLab, VS Code, Colab and marimo say, else the system's. */
export function hostTheme(): Theme {
  const { body, documentElement } = document;
  const jupyter = body.dataset["jpThemeLight"];
  if (jupyter !== undefined) return jupyter === "false" ? "dark" : "light";
  const code = body.dataset["vscodeThemeKind"];
  if (code !== undefined) return code.includes("light") ? "light" : "dark";
  const marked = documentElement.getAttribute("theme") ?? documentElement.dataset["theme"];
  if (marked === "dark" || marked === "light") return marked;
  const dark = ["dark", "dark-theme"];
  if (dark.some((name) => body.classList.contains(name))) return "dark";
  if (dark.some((name) => documentElement.classList.contains(name))) return "dark";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/**
 * Make `root` a view: give it the tokens and keep it in the host's theme. `changed` is called
 * with the theme now and at every switch. `styles` are the view's own sheets. Returns the end
 * of it.
 */
export function dress(
  root: HTMLElement,
  styles: readonly string[] = [],
  changed: (theme: Theme) => void = () => {},
): () => void {
  root.classList.add("anb-view");
  const sheet = document.createElement("style");
  sheet.textContent = [css, ...styles].join("\n");
  root.prepend(sheet);

  const follow = () => {
    const theme = hostTheme();
    if (root.dataset["theme"] === theme) return;
    root.dataset["theme"] = theme;
    changed(theme);
  };
  follow();
  const observer = new MutationObserver(follow);
  for (const element of [document.body, document.documentElement]) {
    observer.observe(element, {
      attributes: true,
      attributeFilter: [
        "class",
        "theme",
        "data-theme",
        "data-jp-theme-light",
        "data-vscode-theme-kind",
      ],
    });
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", follow);
  return () => {
    observer.disconnect();
    system.removeEventListener("change", follow);
  };
}

/** The value of a design token in a view, such as `token(root, "bid")`. */
export function token(root: HTMLElement, name: string): string {
  return getComputedStyle(root).getPropertyValue(`--anb-${name}`).trim();
}
