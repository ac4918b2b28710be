/** The panel below a badge: the report of its stream, and the log. */
import { element, pool, setText } from "./dom";
import type { Log } from "./log";
import { LogView } from "./logview";
import type { Report, Row, Section } from "./report";

export class Details {
  readonly element = element("section", "anb-details");
  readonly #sections = element("div", "anb-sections");
  readonly #notes = element("dl", "anb-notes");
  readonly #log: LogView;

  constructor(log: Log) {
    this.#log = new LogView(log);
    this.element.id = `anb-${Math.random().toString(36).slice(2)}`;
    this.element.setAttribute("aria-label", "Details of the stream");
    this.element.hidden = true;
    this.element.append(this.#sections, this.#notes, this.#log.element);
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
    const { sections, notes } = report ?? { sections: [], notes: [] };
    const shown = pool(this.#sections, sections.length, makeSection);
    for (const [at, section] of sections.entries()) drawSection(shown[at], section);
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
