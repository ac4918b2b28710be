/**
 * Draws rows, and is the only file that does.
 *
 * Only the rows in sight exist as elements. An element belongs to a row by the row's key modulo
 * the number of elements, so a tape that moves down by three rows moves its elements and writes
 * three new ones, and an element whose text is the same is not touched. Text is only ever set
 * as text.
 */
import { type Amendment, amendment } from "./amended";
import type { Cell, Rows } from "./columns";
import { element } from "./dom";
import { count } from "./format";
import { type ColumnSpec, type Fitted, fitColumns, layout } from "./layout";

export const ROW_HEIGHT = 26;
const HEAD_HEIGHT = 28;

/** Rows drawn above and below what is in sight. */
const OVERSCAN = 4;

/** A table without a height of its own shows between so many rows, then it scrolls. */
const FEWEST = 4;
const MOST = 14;

/** By these a row is known again. */
const READ = ["timestamp", "symbol", "trade_id"];

interface DrawnCell {
  readonly element: HTMLElement;
  text: string;
  move: number;
}

interface DrawnRow {
  readonly element: HTMLElement;
  readonly cells: DrawnCell[];
  key: number;
  top: number;
  amendment: Amendment | undefined;
}

export interface GridOptions {
  readonly channel: string;
  /** Pixels for the rows with their head; as high as need be when null. */
  readonly height: number | null;
  /** What to say while there are no rows. */
  readonly empty: string;
}

export class Grid {
  /** The element to put into the view. */
  readonly element = element("div", "anb-content");
  readonly #options: GridOptions;
  readonly #scroll = element("div", "anb-scroll");
  readonly #head = element("div", "anb-head");
  readonly #body = element("div", "anb-rows");
  readonly #empty = element("div", "anb-empty");
  readonly #newer = document.createElement("button");
  readonly #sizes: ResizeObserver | undefined;

  #rows: Rows | null = null;
  #columns: readonly Fitted[] = [];
  #fittedFor = "";
  #width = 0;
  #drawn: DrawnRow[] = [];
  /** The store's version and position when it was last drawn. */
  #version = 0;
  #position = 0;
  #unseen = 0;
  /** A column that is empty takes no room; one that was not empty keeps its place. */
  #amended = false;

  constructor(options: GridOptions) {
    this.#options = options;
    this.#scroll.tabIndex = 0;
    this.#scroll.setAttribute("role", "table");
    this.#head.setAttribute("role", "row");
    this.#body.setAttribute("role", "rowgroup");
    this.#newer.className = "anb-newer";
    this.#newer.type = "button";
    this.#newer.hidden = true;
    this.#newer.addEventListener("click", () => this.#scroll.scrollTo({ top: 0 }));
    this.#scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#empty.textContent = options.empty;
    this.#scroll.append(this.#head, this.#empty, this.#body);
    this.element.style.position = "relative";
    this.element.append(this.#scroll, this.#newer);
    this.#setHeight();
    if (typeof ResizeObserver !== "undefined") {
      this.#sizes = new ResizeObserver(() => this.draw());
      this.#sizes.observe(this.#scroll);
    }
  }

  /** Show these rows from now on; where they are those there were, the reader stays with them. */
  show(rows: Rows): void {
    this.#position = rows.position - this.#arrivedAbove(rows);
    this.#rows = rows;
    this.#scroll.dataset["shape"] = rows.shape;
    this.#version = rows.version;
    this.#forgetRows();
  }

  /** Bring the elements up to date with the rows, the width and the scroll position. */
  draw(): void {
    const rows = this.#rows;
    if (rows === null) return;
    // All reading of the layout comes before all writing, so the page is laid out once.
    const width = this.#scroll.clientWidth || this.#width;
    const seen = this.#scroll.clientHeight || HEAD_HEIGHT + MOST * ROW_HEIGHT;
    let top = this.#scroll.scrollTop;
    this.#fit(rows, width);
    top = this.#hold(rows, top, seen);
    const first = Math.max(Math.floor(top / ROW_HEIGHT) - OVERSCAN, 0);
    const room = Math.ceil(seen / ROW_HEIGHT) + 2 * OVERSCAN;
    this.#makeRoom(room);
    const last = Math.min(first + room, rows.length);
    for (let row = first; row < last; row++) this.#drawRow(rows, row);
    this.#hideOthers(rows, first, last);
    this.#empty.hidden = rows.length > 0;
    this.#setHeight();
    this.#version = rows.version;
    this.#position = rows.position;
  }

  destroy(): void {
    this.#sizes?.disconnect();
  }

  /** How many rows more there are above the topmost that is read, in other rows. */
  #arrivedAbove(next: Rows): number {
    const rows = this.#rows;
    const above = Math.floor(this.#scroll.scrollTop / ROW_HEIGHT);
    if (rows?.shape !== "tape" || next.shape !== "tape" || above <= 0) return 0;
    // Those that have arrived and were not drawn yet stand above it, too.
    const top = above + rows.position - this.#position;
    const names = READ.filter((name) => rows.names.includes(name));
    const read = names.map((name) => rows.value(top, name));
    for (let row = 0; row < next.length; row++) {
      if (names.every((name, at) => next.value(row, name) === read[at])) return row - above;
    }
    return next.position - this.#position;
  }

  /** Rows that arrive on top must not move those that somebody is reading. */
  #hold(rows: Rows, top: number, seen: number): number {
    const height = rows.length * ROW_HEIGHT;
    this.#body.style.height = `${height}px`;
    if (rows.shape !== "tape" || top <= 0) {
      this.#unseen = 0;
      this.#newer.hidden = true;
      return top;
    }
    const arrived = rows.position - this.#position;
    // What leaves the page's memory cannot be held; then the oldest rows there are stand still.
    const furthest = Math.max(HEAD_HEIGHT + height - seen, 0);
    const held = Math.min(Math.max(top + arrived * ROW_HEIGHT, 0), furthest);
    if (arrived !== 0) {
      this.#scroll.scrollTop = held;
      this.#unseen = Math.max(this.#unseen + arrived, 0);
    }
    this.#newer.hidden = this.#unseen === 0;
    this.#newer.textContent = `↑ ${count(this.#unseen)} newer`;
    return held;
  }

  #scrolled(): void {
    if (this.#scroll.scrollTop <= 0) this.#unseen = 0;
    this.draw();
  }

  #fit(rows: Rows, width: number): void {
    this.#amended ||= rows.amended;
    const names = rows.names.filter((name) => name !== "amended" || this.#amended);
    const wanted = `${width} ${names.join(" ")}`;
    if (wanted === this.#fittedFor) return;
    this.#fittedFor = wanted;
    this.#width = width;
    this.#columns = fitColumns(layout(this.#options.channel, names), width);
    const widths = this.#columns.map((column) => `${column.width}px`);
    this.#scroll.style.setProperty("--anb-columns", `${widths.join(" ")} 1fr`);
    this.#head.replaceChildren(
      ...this.#columns.map(({ spec }) => {
        const cell = cellFor(spec, "columnheader");
        cell.textContent = spec.heading;
        return cell;
      }),
    );
    this.#forgetRows();
  }

  #forgetRows(): void {
    this.#drawn = [];
    this.#body.replaceChildren();
  }

  #makeRoom(room: number): void {
    if (this.#drawn.length >= room) return;
    // The rule "key modulo number" changes for all, so all are written again.
    for (const row of this.#drawn) row.key = Number.NaN;
    while (this.#drawn.length < room) {
      const row = element("div", "anb-row");
      row.setAttribute("role", "row");
      const cells = this.#columns.map(({ spec }) => {
        const cell = cellFor(spec, "cell");
        row.append(cell);
        return { element: cell, text: "", move: 0 };
      });
      row.hidden = true;
      this.#body.append(row);
      const nowhere = { key: Number.NaN, top: Number.NaN };
      this.#drawn.push({ element: row, cells, ...nowhere, amendment: undefined });
    }
  }

  #drawRow(rows: Rows, row: number): void {
    const key = rows.key(row);
    const drawn = this.#drawn[key % this.#drawn.length];
    if (drawn === undefined) return;
    const same = drawn.key === key;
    if (drawn.top !== row) {
      drawn.top = row;
      drawn.element.style.transform = `translateY(${row * ROW_HEIGHT}px)`;
    }
    drawn.element.hidden = false;
    drawn.key = key;
    // A row of a tape is never written twice.
    if (same && rows.shape === "tape") return;
    for (const [at, { spec }] of this.#columns.entries()) {
      const cell = drawn.cells[at];
      if (cell !== undefined) this.#drawCell(cell, spec, rows, row, same);
    }
    drawAmendment(drawn, amendment(rows.value(row, "amended")));
  }

  #drawCell(cell: DrawnCell, spec: ColumnSpec, rows: Rows, row: number, same: boolean): void {
    const value: Cell = spec.from ? spec.from(rows, row) : rows.value(row, spec.name);
    const text = spec.text(value);
    if (text !== cell.text) {
      cell.text = text;
      cell.element.textContent = text;
    }
    if (!spec.ticks) return;
    const move = rows.move(row, spec.name);
    if (move !== cell.move) {
      cell.move = move;
      cell.element.dataset["move"] = String(move);
    }
    const changed = rows.changed(row, spec.name);
    // Only a change since the last drawing flashes, not what scrolls into sight.
    if (same && changed > this.#version && move !== 0) {
      cell.element.dataset["flash"] = `${move > 0 ? "up" : "down"}-${changed % 2}`;
    } else if (!same) {
      delete cell.element.dataset["flash"];
    }
  }

  #hideOthers(rows: Rows, first: number, last: number): void {
    const keys = new Set<number>();
    for (let row = first; row < last; row++) keys.add(rows.key(row));
    for (const drawn of this.#drawn) {
      if (keys.has(drawn.key)) continue;
      drawn.element.hidden = true;
      drawn.key = Number.NaN;
    }
  }

  #setHeight(): void {
    const { height } = this.#options;
    const rows = this.#rows;
    const lines = Math.min(Math.max(rows?.length ?? 0, FEWEST), MOST);
    const pixels = height ?? HEAD_HEIGHT + lines * ROW_HEIGHT;
    const wanted = `${pixels}px`;
    if (this.#scroll.style.height !== wanted) this.#scroll.style.height = wanted;
  }
}

function drawAmendment(drawn: DrawnRow, amended: Amendment | undefined): void {
  if (amended === drawn.amendment) return;
  drawn.amendment = amended;
  drawn.element.title = amended?.text ?? "";
  if (amended === undefined) delete drawn.element.dataset["amended"];
  else drawn.element.dataset["amended"] = amended.kind;
}

function cellFor(spec: ColumnSpec, role: string): HTMLElement {
  const cell = element("div", "anb-cell");
  cell.setAttribute("role", role);
  cell.dataset["role"] = spec.role;
  cell.dataset["name"] = spec.name;
  if (spec.tone !== undefined) cell.dataset["tone"] = spec.tone;
  if (spec.ticks) cell.dataset["ticks"] = "";
  return cell;
}
