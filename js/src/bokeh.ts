/**
 * BokehJS, evaluated once per page and version, and private to us.
 *
 * The script that ships in the bokeh wheel installs itself on whatever `this` is. We call
 * it with an object of our own, so no global `Bokeh` appears and none that is there (of
 * `output_notebook()`, or of another version) is touched. Each widget's module is
 * evaluated anew by anywidget, so what the page shares hangs on a registered symbol.
 */

/** A Bokeh model in the page, as far as we use it. */
export interface BokehModel {
  readonly id: string;
  readonly type: string;
  readonly name: string | null;
  readonly tags: unknown[];
  /** Set several properties with one redraw. */
  setv(properties: Record<string, unknown>): void;
  readonly properties: Record<string, { change: BokehSignal } | undefined>;
}

export interface BokehSignal {
  connect(slot: () => void): boolean;
  disconnect(slot: () => void): boolean;
}

export interface BokehRange extends BokehModel {
  start: number;
  end: number;
}

export type SourceData = Record<string, Float64Array>;

export interface BokehSource extends BokehModel {
  data: SourceData;
  stream(rows: SourceData, rollover?: number): void;
}

export interface BokehDocument {
  get_model_by_name(name: string): BokehModel | null;
  readonly all_models: Set<BokehModel>;
  clear(): void;
}

/** A view in the page: of a layout, which has children, or of a figure, which has a frame. */
export interface BokehView {
  readonly el: HTMLElement;
  readonly model: BokehModel & { readonly document: BokehDocument | null };
  readonly child_views?: readonly BokehView[];
  /** Where a figure draws its data, in pixels of its element. */
  readonly frame?: { readonly bbox: { readonly left: number; readonly width: number } };
  /** What a figure draws on, and the element that hears the pointer. */
  readonly canvas_view?: { readonly events_el?: HTMLElement };
  export?(type?: "auto" | "png" | "svg"): { readonly canvas: HTMLCanvasElement };
}

export interface BokehViews {
  readonly roots: BokehView[];
  clear(): void;
}

/** What Python's `bokeh.embed.json_item` makes. */
export interface BokehItem {
  doc: unknown;
  root_id: string;
  target_id: string | null;
  version?: string;
}

export interface Bokeh {
  readonly version: string;
  readonly embed: { embed_item(item: BokehItem, target: HTMLElement): Promise<BokehViews> };
  set_log_level(level: string): void;
}

/** The carrier's state: the gzipped script and its version. */
export interface BokehCarrier {
  version: string;
  script: ArrayBufferView;
}

const REGISTRY = Symbol.for("alpaca_nb.bokeh");

type Registry = Map<string, Promise<Bokeh>>;

function registry(): Registry {
  const page = globalThis as { [REGISTRY]?: Registry };
  page[REGISTRY] ??= new Map();
  return page[REGISTRY];
}

/** Return the page's BokehJS of the carrier's version, evaluating it on the first call. */
export function loadBokeh(carrier: BokehCarrier): Promise<Bokeh> {
  const loaded = registry();
  let bokeh = loaded.get(carrier.version);
  if (bokeh === undefined) {
    bokeh = evaluate(carrier);
    loaded.set(carrier.version, bokeh);
    // A failure is not kept: the next chart tries again.
    bokeh.catch(() => loaded.delete(carrier.version));
  }
  return bokeh;
}

async function evaluate(carrier: BokehCarrier): Promise<Bokeh> {
  const module = wrap(await gunzip(carrier.script));
  const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
  try {
    const { default: bokeh } = (await import(/* @vite-ignore */ url)) as { default: Bokeh };
    // It warns of every figure that has no data yet.
    bokeh.set_log_level("error");
    return bokeh;
  } finally {
    URL.revokeObjectURL(url);
  }
}

/**
 * Make a module of the script: it runs with a root object of its own, and without the
 * `require`, `define`, `module` and `exports` that a page with RequireJS would lend it.
 */
export function wrap(script: string): string {
  return `const root = {};
(function (require, define, module, exports) {
${script}
}).call(root);
export default root.Bokeh;
`;
}

/** Unpack gzipped UTF-8 text. */
export async function gunzip(bytes: ArrayBufferView): Promise<string> {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser cannot unpack BokehJS: it has no DecompressionStream.");
  }
  // A view may cover only a part of its buffer; Blob takes exactly that part.
  const packed = new Blob([bytes as ArrayBufferView<ArrayBuffer>]).stream();
  return new Response(packed.pipeThrough(new DecompressionStream("gzip"))).text();
}
