/**
 * Which stretch of time a chart shows: the newest, or where the person went.
 *
 * Pure: no Bokeh and no DOM. Times are milliseconds on the chart's axis.
 */

export interface Span {
  readonly start: number;
  readonly end: number;
}

/** Empty room to the right of the newest point, as a share of the width. */
const MARGIN = 0.03;

/** Narrower than this nothing is to be seen, and the first two points would fill the axis. */
const NARROWEST_MS = 2_000;

/** Two widths closer than this are the same: panning does not keep them exactly. */
const SAME = 1e-6;

export class Follow {
  #window: number;
  #following = true;
  #shown: Span | null = null;
  #last = Number.NaN;

  /** `window` is the width in milliseconds that is shown while following. */
  constructor(window: number) {
    this.#window = window;
  }

  /** Whether the chart keeps the newest point in view. */
  get following(): boolean {
    return this.#following;
  }

  /** Data now reaches from `first` to `last`: the span to show, or null to leave it. */
  advance(first: number, last: number): Span | null {
    if (!Number.isFinite(first) || !Number.isFinite(last)) return null;
    this.#last = last;
    if (!this.#following) return null;
    // Little data fills the axis instead of clinging to its right end.
    const width = Math.max(NARROWEST_MS, Math.min(this.#window, last - first));
    this.#shown = { start: last - width, end: last + width * MARGIN };
    return this.#shown;
  }

  /**
   * The axis now shows `span`: by us, or by the person's hand. Returns whether the chart
   * still follows.
   *
   * Panning away ends following. Zooming with the newest point in view keeps it, with the
   * new width: a closer look at what happens now is still a look at now.
   */
  moved(span: Span): boolean {
    const shown = this.#shown;
    if (shown === null || (span.start === shown.start && span.end === shown.end)) {
      return this.#following;
    }
    const before = shown.end - shown.start;
    const width = span.end - span.start;
    const zoomed = Math.abs(width - before) > before * SAME;
    const newestInView = span.start < this.#last && this.#last <= span.end;
    this.#following = this.#following && zoomed && newestInView;
    if (this.#following) this.#window = width / (1 + MARGIN);
    this.#shown = span;
    return this.#following;
  }

  /** Go back to the newest data; call `advance` for the span. */
  resume(): void {
    this.#following = true;
  }
}
