/** The panel below a badge: the report of its stream, and the log. */
import { element, pool, setText } from "./dom";
import type { Log } from "./log";
import { LogView } from "./logview";
import type { Report, Row, Section, SymbolLine } from "./report";

export class Details {
  readonly element = element("section", "anb-details");
  readonly #sections = element("div", "anb-sections");
  readonly #symbols = element("div", "anb-symbols");
  readonly #notes = element("dl", "anb-notes");
  readonly #log: LogView;

  constructor(log: Log) {
    this.#log = new LogView(log);
    this.element.id = `anb-${Math.random().toString(36).slice(2)}`;
    this.element.setAttribute("aria-label", "Details of the stream");
    this.element.hidden = true;
    this.#symbols.setAttribute("role", "table");
    this.#symbols.setAttribute("aria-label", "Symbols of this view");
    this.element.append(this.#sections, this.#symbols, this.#notes, this.#log.element);
  }

  get open(): boolean {
    return !this.element.hidden;
  }

  set open(open: boolean) {
    this.element.hidden = !open;
    if (open) this.#log.open();
  }

  /** Bring the texts up to date; nothing is known yet when the report is null. */
  draw(report: Report | null): void {
    const { sections, symbols, notes } = report ?? { sections: [], symbols: [], notes: [] };
    const shown = pool(this.#sections, sections.length, makeSection);
    for (const [at, section] of sections.entries()) drawSection(shown[at], section);
    drawSymbols(this.#symbols, symbols);
    this.#symbols.hidden = symbols.length === 0;
    drawRows(this.#notes, notes);
    this.#notes.hidden = notes.length === 0;
    this.#log.draw();
  }
}

function makeSection(): HTMLElement {
  const section = element("div", "anb-section");
  section.append(element("h4"), element("dl"));
  return section;
}

function drawSection(place: HTMLElement | undefined, { title, rows }: Section): void {
  const [heading, list] = place?.children ?? [];
  setText(heading ?? null, title);
  if (list instanceof HTMLElement) drawRows(list, rows);
}

/** The cells of a symbol's line, in their order. */
const CELLS = ["symbol", "state", "rate", "last", "band"] as const;

function drawSymbols(list: HTMLElement, lines: readonly SymbolLine[]): void {
  const shown = pool(list, lines.length, () => {
    const line = element("div", "anb-symbol");
    line.setAttribute("role", "row");
    for (const name of CELLS) {
      const cell = element("span");
      cell.setAttribute("role", "cell");
      cell.dataset["name"] = name;
      line.append(cell);
    }
    return line;
  });
  for (const [at, line] of lines.entries()) {
    const place = shown[at];
    if (place === undefined) continue;
    place.dataset["tone"] = line.tone;
    for (const [index, name] of CELLS.entries()) {
      const cell = place.children[index] as HTMLElement;
      setText(cell, line[name]);
      if (name === "state") cell.dataset["mark"] = line.mark;
    }
  }
}

function drawRows(list: HTMLElement, rows: readonly Row[]): void {
  const shown = pool(list, rows.length, () => {
    const row = element("div", "anb-entry");
    row.append(element("dt"), element("dd"));
    return row;
  });
  for (const [at, { label, value, tone }] of rows.entries()) {
    const row = shown[at];
    if (row === undefined) continue;
    setText(row.firstChild, label);
    setText(row.lastChild, value);
    row.dataset["tone"] = tone ?? "";
  }
}
