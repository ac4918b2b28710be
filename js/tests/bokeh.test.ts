// @vitest-environment happy-dom
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type Bokeh, gunzip, loadBokeh, wrap } from "../src/bokeh";

const REGISTRY = Symbol.for("alpaca_nb.bokeh");

/** A stand-in for bokeh.min.js: it installs itself on `this`, as the real one does. */
const SCRIPT = `"use strict";
(function (root, factory) { root.Bokeh = factory(); })(this, function () {
  globalThis.evaluations = (globalThis.evaluations ?? 0) + 1;
  return {
    version: "1.2.3",
    set_log_level() {},
    lent: [typeof require, typeof define, typeof module, typeof exports],
  };
});`;

/** Node cannot import a blob: URL, so here a module's text is its URL. */
function importText(): void {
  vi.stubGlobal(
    "Blob",
    class {
      readonly parts: unknown[];
      constructor(parts: unknown[]) {
        this.parts = parts;
      }
      stream(): ReadableStream {
        return new Response(this.parts[0] as Uint8Array<ArrayBuffer>).body as ReadableStream;
      }
    },
  );
  vi.spyOn(URL, "createObjectURL").mockImplementation((blob) => {
    const [text] = (blob as unknown as { parts: string[] }).parts;
    return `data:text/javascript;base64,${Buffer.from(text ?? "").toString("base64")}`;
  });
  vi.spyOn(URL, "revokeObjectURL").mockImplementation(() => undefined);
}

afterEach(() => {
  vi.unstubAllGlobals();
  Reflect.deleteProperty(globalThis, REGISTRY);
  Reflect.deleteProperty(globalThis, "evaluations");
});

describe("gunzip", () => {
  it("unpacks exactly the view, whatever else its buffer holds", async () => {
    const packed = gzipSync("état");
    const larger = new Uint8Array(packed.length + 7);
    larger.set(packed, 3);
    expect(await gunzip(new DataView(larger.buffer, 3, packed.length))).toBe("état");
  });

  it("says what is missing in a browser without DecompressionStream", async () => {
    vi.stubGlobal("DecompressionStream", undefined);
    await expect(gunzip(new Uint8Array())).rejects.toThrow("DecompressionStream");
  });
});

describe("loadBokeh", () => {
  it("evaluates one script once for all charts of a page", async () => {
    importText();
    const carrier = { version: "1.2.3", script: gzipSync(SCRIPT) };
    const [first, second] = await Promise.all([loadBokeh(carrier), loadBokeh({ ...carrier })]);
    expect(first).toBe(second);
    expect((globalThis as { evaluations?: number }).evaluations).toBe(1);
  });

  it("leaves no global behind and lends the script no module system", async () => {
    importText();
    const bokeh = await loadBokeh({ version: "1.2.3", script: gzipSync(SCRIPT) });
    expect("Bokeh" in globalThis).toBe(false);
    expect((bokeh as unknown as { lent: string[] }).lent).toEqual(Array(4).fill("undefined"));
  });

  it("keeps versions apart", async () => {
    importText();
    const one = await loadBokeh({ version: "1", script: gzipSync(SCRIPT) });
    const two = await loadBokeh({ version: "2", script: gzipSync(`${SCRIPT}\n`) });
    expect(one).not.toBe(two);
  });

  it("tries again after a failure", async () => {
    importText();
    const broken = new Uint8Array([1, 2, 3]);
    await expect(loadBokeh({ version: "1.2.3", script: broken })).rejects.toThrow();
    const bokeh = await loadBokeh({ version: "1.2.3", script: gzipSync(SCRIPT) });
    expect(bokeh.version).toBe("1.2.3");
  });
});

/** The script of the bokeh in the project's own environment, where there is one. */
function installedScript(): string | undefined {
  const environment = join(import.meta.dirname, "../../.venv/lib");
  const pythons = existsSync(environment) ? readdirSync(environment) : [];
  return pythons
    .map((python) => join(environment, python, "site-packages/bokeh/server/static/js/bokeh.min.js"))
    .find((path) => existsSync(path));
}

describe.skipIf(installedScript() === undefined)("the installed wheel's script", () => {
  it("loads as a private module that can embed a figure", async () => {
    const module = wrap(readFileSync(installedScript() ?? "", "utf8"));
    const url = `data:text/javascript;base64,${Buffer.from(module).toString("base64")}`;
    // happy-dom draws nothing, and Bokeh asks at once what the canvas can do.
    const context: unknown = new Proxy(() => context, { get: () => context });
    vi.stubGlobal("OffscreenCanvas", undefined);
    vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue(context as never);
    const { default: bokeh } = (await import(/* @vite-ignore */ url)) as { default: Bokeh };
    expect(bokeh.version).toMatch(/^\d+\.\d+/);
    expect(typeof bokeh.embed.embed_item).toBe("function");
    expect(typeof bokeh.set_log_level).toBe("function");
    expect("Bokeh" in globalThis).toBe(false);
  });
});
