/** A Bokeh figure in the page: embedded once, then only fed, moved and repainted. */
import type {
  Bokeh,
  BokehDocument,
  BokehItem,
  BokehModel,
  BokehRange,
  BokehSource,
  BokehView,
  BokehViews,
  SourceData,
} from "./bokeh";
import type { Span } from "./follow";
import { paint } from "./paint";

/** The names under which Python's figures.py makes these models. */
const SOURCE = "rows";
const TIME_RANGE = "time";
const VOLUME_RANGE = "volume";
const LAST_LINE = "last";

export class Plot {
  readonly #views: BokehViews;
  readonly #document: BokehDocument;
  readonly #source: BokehSource;
  readonly #time: BokehRange;
  readonly #last: BokehModel | null;
  /** What Python put in: a row without a value, for Bokeh cannot draw every glyph of none. */
  readonly #nothing: SourceData;
  readonly #moved = () => this.onMove({ start: this.#time.start, end: this.#time.end });

  /** Called when the time axis has moved, whoever moved it. */
  onMove: (span: Span) => void = () => {};

  /** Draw a figure into `target`. */
  static async embed(bokeh: Bokeh, item: BokehItem, target: HTMLElement): Promise<Plot> {
    return new Plot(await bokeh.embed.embed_item(item, target));
  }

  private constructor(views: BokehViews) {
    this.#views = views;
    const document = views.roots[0]?.model.document;
    if (!document) throw new Error("The figure could not be drawn.");
    this.#document = document;
    this.#source = this.#find(SOURCE) as BokehSource;
    this.#nothing = this.#source.data;
    this.#time = this.#find(TIME_RANGE) as BokehRange;
    this.#last = document.get_model_by_name(LAST_LINE);
    for (const end of ["start", "end"]) {
      this.#time.properties[end]?.change.connect(this.#moved);
    }
    views.roots.forEach(withoutFocus);
  }

  /** Show these rows and no others. The arrays belong to the plot from now on. */
  replace(rows: SourceData): void {
    const empty = Object.values(rows).every((values) => values.length === 0);
    this.#source.data = empty ? this.#nothing : rows;
  }

  /** Add rows at the end, and drop the oldest beyond `capacity`. */
  stream(rows: SourceData, capacity: number): void {
    this.#source.stream(rows, capacity);
  }

  /** Move the time axis. */
  show(span: Span): void {
    this.#time.setv({ start: span.start, end: span.end });
  }

  /** Let the volume panel reach up to `top`. */
  raise(top: number): void {
    if (top > 0) this.#document.get_model_by_name(VOLUME_RANGE)?.setv({ end: top });
  }

  /** Draw the line of the newest price; none while there is no price. */
  mark(price: number): void {
    const location = Number.isFinite(price) ? price : null;
    this.#last?.setv({ location, visible: location !== null });
  }

  /** Take the theme's colours; `colour` looks a token up. */
  paint(colour: (token: string) => string): void {
    paint(this.#document.all_models, colour);
  }

  /** The time on the axis at a pointer's position, or NaN beside the panels. */
  timeAt(clientX: number): number {
    const view = panelOf(this.#views.roots[0]);
    const frame = view?.frame?.bbox;
    if (view === undefined || frame === undefined) return Number.NaN;
    const share = (clientX - view.el.getBoundingClientRect().left - frame.left) / frame.width;
    if (share < 0 || share > 1) return Number.NaN;
    return this.#time.start + share * (this.#time.end - this.#time.start);
  }

  /** A picture of all panels as they are now. */
  picture(): HTMLCanvasElement | undefined {
    return this.#views.roots[0]?.export?.("png").canvas;
  }

  dispose(): void {
    for (const end of ["start", "end"]) {
      this.#time.properties[end]?.change.disconnect(this.#moved);
    }
    this.#views.clear();
    this.#document.clear();
  }

  #find(name: string): BokehModel {
    const model = this.#document.get_model_by_name(name);
    if (model === null) throw new Error(`The figure has nothing named "${name}" to feed.`);
    return model;
  }
}

/** Keep a panel from taking the focus, and drawing a ring, at every click: no key does anything. */
function withoutFocus(view: BokehView): void {
  const events = view.canvas_view?.events_el;
  if (events !== undefined) {
    events.tabIndex = -1;
    events.style.outline = "none";
  }
  view.child_views?.forEach(withoutFocus);
}

/** The first panel with a frame, of a layout or of a figure on its own. */
function panelOf(view: BokehView | undefined): BokehView | undefined {
  if (view === undefined || view.frame !== undefined) return view;
  return view.child_views?.map(panelOf).find((found) => found !== undefined);
}
