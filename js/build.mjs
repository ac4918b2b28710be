// Bundles each widget into one ES module that anywidget can load, styles included.
import { mkdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { context } from "esbuild";

/** The widgets: `src/NAME.ts` becomes `alpaca_nb/view/static/NAME.js`. */
const WIDGETS = ["table", "chart"];

/** Every widget instance carries its module to the browser, so a module stays small. */
const MAX_BYTES = 150_000;

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "alpaca_nb", "view", "static");

/** Reports each module's size and fails the build when one has outgrown its limit. */
const sizeLimit = {
  name: "size-limit",
  setup(build) {
    build.onEnd(({ metafile }) => {
      const errors = [];
      for (const [path, { bytes }] of Object.entries(metafile?.outputs ?? {})) {
        console.log(`${path} ${(bytes / 1000).toFixed(1)} kB`);
        if (bytes > MAX_BYTES) errors.push({ text: `${path} is larger than ${MAX_BYTES} bytes` });
      }
      return { errors };
    });
  },
};

// The whole folder is ours: a file left from an earlier build would end up in the wheel.
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });

const build = await context({
  absWorkingDir: here,
  entryPoints: WIDGETS.map((name) => join(here, "src", `${name}.ts`)),
  outdir: out,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  charset: "utf8",
  legalComments: "none",
  loader: { ".css": "text" },
  metafile: true,
  logLevel: "warning",
  plugins: [sizeLimit],
});

if (process.argv.includes("--watch")) {
  await build.watch();
} else {
  try {
    await build.rebuild();
  } catch {
    process.exitCode = 1; // esbuild has said why
  }
  await build.dispose();
}
