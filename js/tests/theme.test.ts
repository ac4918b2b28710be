// @vitest-environment happy-dom
import { afterEach, describe, expect, it, vi } from "vitest";
import { dress, hostTheme, token } from "../src/theme";

afterEach(() => {
  for (const element of [document.body, document.documentElement]) {
    for (const name of element.getAttributeNames()) element.removeAttribute(name);
  }
  document.body.replaceChildren();
});

describe("hostTheme", () => {
  it.each([
    ["JupyterLab, dark", () => document.body.setAttribute("data-jp-theme-light", "false"), "dark"],
    ["JupyterLab, light", () => document.body.setAttribute("data-jp-theme-light", "true"), "light"],
    ["VS Code", () => document.body.setAttribute("data-vscode-theme-kind", "vscode-dark"), "dark"],
    [
      "VS Code, high contrast light",
      () => document.body.setAttribute("data-vscode-theme-kind", "vscode-high-contrast-light"),
      "light",
    ],
    ["Colab", () => document.documentElement.setAttribute("theme", "dark"), "dark"],
    ["marimo", () => document.documentElement.classList.add("dark"), "dark"],
    ["a host that says nothing", () => {}, "light"],
  ] as const)("%s", (_, set, theme) => {
    set();
    expect(hostTheme()).toBe(theme);
  });
});

describe("dress", () => {
  it("follows the host's switch until it is ended", async () => {
    const root = document.createElement("div");
    document.body.append(root);
    document.body.setAttribute("data-jp-theme-light", "true");
    const changed = vi.fn();
    const end = dress(root, [".mine { color: red }"], changed);
    expect(root.dataset["theme"]).toBe("light");
    expect(root.querySelector("style")?.textContent).toContain(".mine");

    document.body.setAttribute("data-jp-theme-light", "false");
    await vi.waitFor(() => expect(root.dataset["theme"]).toBe("dark"));
    expect(changed.mock.calls).toEqual([["light"], ["dark"]]);

    end();
    document.body.setAttribute("data-jp-theme-light", "true");
    await new Promise((resolve) => setTimeout(resolve));
    expect(root.dataset["theme"]).toBe("dark");
  });

  it("gives every view the same tokens", () => {
    const root = document.createElement("div");
    document.body.append(root);
    dress(root)();
    expect(token(root, "bid")).toMatch(/^#[0-9a-f]{6}$/);
  });
});
