/** One place in the page where a chart is drawn: bar, read-out, panels and their controls. */
import type { AnyModel } from "@anywidget/types";
import { Badge } from "./badge";
import type { Bokeh } from "./bokeh";
import chartCss from "./chart.css";
import type { ChartState } from "./chartmodel";
import { element, setText } from "./dom";
import { Follow } from "./follow";
import type { Log } from "./log";
import { compose, save } from "./picture";
import { Plot } from "./plot";
import { type Reading, readings } from "./readout";
import type { Change, ChartRows } from "./series";
import { dress, token } from "./theme";

/** The column of the newest price, by channel; bars have a close. */
const PRICE: Readonly<Record<string, string>> = { quotes: "mid", trades: "price" };

/** The column of the lower panel, where there is one. */
const VOLUME: Readonly<Record<string, string>> = {
  trades: "size",
  bars: "volume",
  updated_bars: "volume",
  daily_bars: "volume",
};

const HINT_MS = 1_500;

export class ChartView {
  readonly root = element("div", "");
  readonly badge: Badge;
  readonly #model: AnyModel<ChartState>;
  readonly #rows: ChartRows;
  readonly #painted: (drawMs: number) => void;
  readonly #channel: string;
  readonly #volume: string | undefined;
  readonly #controller = new AbortController();
  readonly #undress: () => void;

  readonly #title = element("div", "anb-title");
  readonly #readout = element("div", "anb-readout");
  readonly #followButton = button("Follow", "Show the newest data again");
  readonly #target = element("div", "anb-plot");
  readonly #message = element("div", "anb-message");
  readonly #hint = element("div", "anb-hint");

  #plot: Plot | null = null;
  #opening = 0;
  #follow: Follow;
  #added = 0;
  #replaced = true;
  #frame = 0;
  #problem = "";
  #pointer = Number.NaN;
  /** The wheel zooms only in a chart that was clicked; else it scrolls the page. */
  #armed = false;
  #hiding: ReturnType<typeof setTimeout> | undefined;

  /** `log` holds what the stream's statuses brought; `painted` is told how long drawing took. */
  constructor(
    model: AnyModel<ChartState>,
    rows: ChartRows,
    log: Log,
    painted: (drawMs: number) => void,
  ) {
    this.#model = model;
    this.#rows = rows;
    this.#painted = painted;
    this.#channel = model.get("channel");
    this.#volume = VOLUME[this.#channel];
    this.#follow = new Follow(model.get("window_ms"));
    this.#undress = dress(this.root, [chartCss], () => this.#paint());
    this.badge = new Badge(this.root, log);
    this.#build();
    const renamed = () => {
      this.#entitle();
      this.#resume();
    };
    const offered = () => this.#entitle();
    model.on("change:symbol", renamed);
    model.on("change:choices", offered);
    this.#controller.signal.addEventListener("abort", () => {
      model.off("change:symbol", renamed);
      model.off("change:choices", offered);
    });
    renamed();
  }

  /** Draw the figure with this BokehJS, in place of one that is drawn already. */
  async open(bokeh: Promise<Bokeh>): Promise<void> {
    this.#opening += 1;
    const turn = this.#opening;
    const { series } = this.#rows;
    try {
      const target = element("div", "anb-plot");
      this.#target.append(target);
      const plot = await Plot.embed(await bokeh, this.#model.get("spec"), target);
      if (turn !== this.#opening) {
        plot.dispose();
        target.remove();
        return;
      }
      this.#plot?.dispose();
      this.#target.replaceChildren(target);
      this.#plot = plot;
      this.#problem = "";
      plot.onMove = (span) => {
        this.#followButton.hidden = this.#follow.moved(span);
        if (this.#volume !== undefined) plot.raise(series.roof(this.#volume, span));
      };
      this.#paint();
      this.#replaced = true;
    } catch (error) {
      this.#problem = `This chart cannot be drawn: ${error instanceof Error ? error.message : error}`;
    }
    this.#schedule();
  }

  /** The rows have changed. */
  update(change: Change): void {
    this.badge.heard();
    this.#added += change.added;
    this.#replaced ||= change.replaced;
    this.#schedule();
  }

  destroy(): void {
    this.#opening += 1;
    this.#controller.abort();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#hiding);
    this.#plot?.dispose();
    this.#plot = null;
    this.badge.destroy();
    this.#undress();
  }

  // -- drawing ---------------------------------------------------------------------------

  #schedule(): void {
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    this.#frame = 0;
    const start = performance.now();
    const { series, symbol } = this.#rows;
    const waiting = series.length === 0 || symbol !== this.#model.get("symbol");
    setText(this.#message, this.#problem || (waiting ? this.#waitingFor() : ""));
    const plot = this.#plot;
    if (plot === null) return;
    this.#feed(plot);
    plot.mark(series.at(PRICE[this.#channel] ?? "close", -1));
    this.#advance(plot);
    this.#read();
    const spent = performance.now() - start;
    // Bokeh paints in the next frame, before we are called: what has passed of it is its work.
    requestAnimationFrame((begun) => this.#painted(spent + performance.now() - begun));
  }

  #feed(plot: Plot): void {
    const { series } = this.#rows;
    if (this.#replaced || this.#added >= series.length) {
      plot.replace(series.tail());
    } else if (this.#added > 0) {
      plot.stream(series.tail(this.#added), series.capacity);
    }
    [this.#added, this.#replaced] = [0, false];
  }

  #advance(plot: Plot): void {
    const { series } = this.#rows;
    // A bar is drawn half before and half after its time.
    const half = this.#model.get("interval_ms") / 2;
    const span = this.#follow.advance(series.at("time", 0) - half, series.at("time", -1) + half);
    if (span !== null) plot.show(span);
  }

  #paint(): void {
    this.#plot?.paint((name) => token(this.root, name));
  }

  #waitingFor(): string {
    const channel = this.#channel.replaceAll("_", " ");
    return `Waiting for ${channel} of ${this.#model.get("symbol")}.`;
  }

  // -- read-out --------------------------------------------------------------------------

  /** Tell the row under the pointer, or the newest one. */
  #read(): void {
    const { series } = this.#rows;
    const time = this.#plot?.timeAt(this.#pointer) ?? Number.NaN;
    const half = this.#model.get("interval_ms") / 2;
    const row = Number.isNaN(time) ? -1 : Math.max(series.rowAt(time + half), 0);
    const told = readings(this.#channel, (column) => series.at(column, row));
    while (this.#readout.children.length < told.length) {
      const reading = element("span", "anb-reading");
      reading.append("", document.createElement("b"));
      this.#readout.append(reading);
    }
    for (const [at, reading] of [...this.#readout.children].entries()) {
      showReading(reading as HTMLElement, told[at]);
    }
  }

  // -- building --------------------------------------------------------------------------

  #build(): void {
    const width = this.#model.get("width");
    if (width !== null) this.root.style.width = `${width + 6}px`;
    const bar = element("div", "anb-bar");
    const [line, ...below] = this.badge.elements;
    bar.append(this.#title, line);
    const chart = element("div", "anb-chart anb-content");
    const tools = element("div", "anb-tools");
    const picture = button("PNG", "Save a picture of this chart");
    this.#followButton.dataset["kind"] = "follow";
    this.#followButton.hidden = true;
    tools.append(this.#followButton, picture);
    this.#target.style.minHeight = `${this.#model.get("height")}px`;
    this.#hint.textContent = "Click the chart to zoom with the wheel";
    const header = element("header", "");
    header.append(this.#readout, tools);
    chart.append(header, this.#target, this.#hint, this.#message);
    this.root.append(bar, ...below, chart);
    this.#listen(this.#followButton, "click", () => this.#resume());
    this.#listen(picture, "click", () => this.#save());
    this.#listenToPointer();
  }

  #listenToPointer(): void {
    const target = this.#target;
    this.#listen(target, "pointermove", (event) => this.#point(event.clientX));
    this.#listen(target, "pointerleave", () => {
      this.#armed = false;
      this.#point(Number.NaN);
    });
    this.#listen(target, "pointerdown", () => {
      this.#armed = true;
    });
    // Before Bokeh hears it: a page must scroll past a chart that nobody has clicked.
    this.#listen(
      target,
      "wheel",
      (event) => {
        if (this.#armed || event.ctrlKey || event.shiftKey) return;
        event.stopPropagation();
        this.#showHint();
      },
      { capture: true, passive: true },
    );
  }

  #point(clientX: number): void {
    this.#pointer = clientX;
    this.#read();
  }

  #showHint(): void {
    this.#hint.toggleAttribute("data-shown", true);
    clearTimeout(this.#hiding);
    this.#hiding = setTimeout(() => this.#hint.removeAttribute("data-shown"), HINT_MS);
  }

  #resume(): void {
    this.#follow.resume();
    this.#followButton.hidden = true;
    this.#schedule();
  }

  #entitle(): void {
    const [symbol, symbols] = [this.#model.get("symbol"), this.#model.get("choices")];
    const name = symbols.length > 1 ? this.#chooser(symbol, symbols) : strong(symbol);
    this.#title.replaceChildren(name, this.#channel.replaceAll("_", " "));
  }

  #chooser(symbol: string, symbols: readonly string[]): HTMLElement {
    const select = document.createElement("select");
    select.setAttribute("aria-label", "Symbol");
    for (const name of symbols) {
      const option = document.createElement("option");
      option.value = option.textContent = name;
      option.selected = name === symbol;
      select.append(option);
    }
    select.addEventListener("change", () => {
      this.#model.set("symbol", select.value);
      this.#model.save_changes();
    });
    return select;
  }

  #save(): void {
    const picture = this.#plot?.picture();
    if (picture === undefined) return;
    const title = `${this.#model.get("symbol")} ${this.#channel.replaceAll("_", " ")}`;
    const origin = this.badge.elements[0].querySelector('[data-kind="origin"]')?.textContent ?? "";
    const last = this.#rows.series.at("time", -1);
    save(
      compose(picture, { title, origin, last, colour: (name) => token(this.root, name) }),
      title,
    );
  }

  #listen<K extends keyof HTMLElementEventMap>(
    target: HTMLElement,
    type: K,
    listener: (event: HTMLElementEventMap[K]) => void,
    options: AddEventListenerOptions = {},
  ): void {
    target.addEventListener(type, listener, { ...options, signal: this.#controller.signal });
  }
}

function showReading(place: HTMLElement, reading: Reading | undefined): void {
  place.hidden = reading === undefined;
  if (reading === undefined) return;
  setText(place.firstChild, reading.label === "" ? "" : `${reading.label} `);
  setText(place.lastChild, reading.value);
  place.style.setProperty("--anb-reading", reading.tone ? `var(--anb-${reading.tone})` : null);
}

function strong(text: string): HTMLElement {
  const made = element("strong", "");
  made.textContent = text;
  return made;
}

function button(text: string, title: string): HTMLButtonElement {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.title = title;
  return made;
}
