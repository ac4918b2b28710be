import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { defineConfig, type Plugin } from "vitest/config";

/** Loads a style sheet as text, as the build does; Vite itself would apply or drop it. */
const cssAsText: Plugin = {
  name: "css-as-text",
  enforce: "pre",
  resolveId(source, importer) {
    if (!source.endsWith(".css") || importer === undefined) return undefined;
    return `\0${join(dirname(importer), source)}.text`;
  },
  async load(id) {
    if (!id.startsWith("\0") || !id.endsWith(".css.text")) return undefined;
    const path = id.slice(1, -".text".length);
    this.addWatchFile(path);
    return `export default ${JSON.stringify(await readFile(path, "utf8"))};`;
  },
};

export default defineConfig({
  plugins: [cssAsText],
  test: {
    include: ["tests/**/*.test.ts"],
    // A test that draws asks for a DOM in its first line: `// @vitest-environment happy-dom`.
    environment: "node",
    restoreMocks: true,
  },
});
