/** What a table holds: the newest row of each symbol, or the newest rows of a tape. */
import { amendment } from "./amended";
import { type Batch, copyValue, copyValues, emptyValues, type Values } from "./delta";
import type { Dtype, Shape } from "./model";
import { Vocabulary } from "./vocabulary";

/** How a value compares with the one before it: +1 higher, -1 lower, 0 neither. */
export type Move = -1 | 0 | 1;

/** A cell: a number, a text, an identifier, or nothing. */
export type Cell = number | string | bigint | null;

/** Rows in the order in which they are shown. */
export interface Rows {
  readonly shape: Shape;
  readonly length: number;
  /** Rows the frame has ever had, shown or not. */
  readonly position: number;
  /** Grows with every batch; see `changed`. */
  readonly version: number;
  /** Column names, in the order of the frame. */
  readonly names: readonly string[];
  /** Whether anything was said of any row after it was sent. */
  readonly amended: boolean;
  /** Take a message in. The caller has made sure that none is missing before it. */
  apply(batch: Batch): void;
  value(row: number, name: string): Cell;
  move(row: number, name: string): Move;
  /** The version in which the cell last got another value; 0 for never since the snapshot. */
  changed(row: number, name: string): number;
  /** A number that stays with a row while others come and go; neighbours are consecutive. */
  key(row: number): number;
}

/** Rows a tape keeps in the page; older ones are in the frame. */
export const TAPE_CAPACITY = 10_000;

/** Make the store that a snapshot asks for; `symbols` are those the frame was made with. */
export function makeRows(shape: Shape, symbols: readonly string[]): Rows {
  return shape === "keyed" ? new KeyedRows(symbols) : new TapeRows();
}

/** A column as it is kept. */
interface Stored {
  readonly dtype: Dtype;
  values: Values;
  /** Direction of the last change, per row. */
  moves: Int8Array;
  /** Version of the last change, per row. */
  changes: Uint32Array;
}

function store(dtype: Dtype, capacity: number): Stored {
  return {
    dtype,
    values: emptyValues(dtype, capacity),
    moves: new Int8Array(capacity),
    changes: new Uint32Array(capacity),
  };
}

function grow(column: Stored, capacity: number): void {
  const { values, moves, changes } = column;
  column.values = emptyValues(column.dtype, capacity);
  (column.values as Float64Array).set(values as Float64Array);
  column.moves = new Int8Array(capacity);
  column.moves.set(moves);
  column.changes = new Uint32Array(capacity);
  column.changes.set(changes);
}

abstract class StoredRows {
  abstract readonly length: number;
  readonly columns = new Map<string, Stored>();
  readonly vocabulary = new Vocabulary();
  position = 0;
  version = 0;
  amended = false;

  get names(): readonly string[] {
    return [...this.columns.keys()];
  }

  value(row: number, name: string): Cell {
    const column = this.columns.get(name);
    if (column === undefined || row >= this.length) return null;
    const value = column.values[this.slot(row)];
    if (value === undefined) return null;
    if (column.dtype === "category") return this.vocabulary.text(name, value as number);
    return typeof value === "number" && Number.isNaN(value) ? null : value;
  }

  move(row: number, name: string): Move {
    return (this.columns.get(name)?.moves[this.slot(row)] ?? 0) as Move;
  }

  changed(row: number, name: string): number {
    return this.columns.get(name)?.changes[this.slot(row)] ?? 0;
  }

  /** Where a shown row is kept. */
  protected abstract slot(row: number): number;

  protected begin({ header, columns }: Batch, capacity: number): void {
    if (header.kind === "snapshot") {
      this.columns.clear();
      this.amended = false;
    }
    for (const { name, dtype } of columns.values()) {
      if (!this.columns.has(name)) this.columns.set(name, store(dtype, capacity));
    }
    this.vocabulary.learn(header.categories);
    this.amended ||= columns.get("amended")?.values.some((code) => this.#isAmended(code)) ?? false;
    this.position = header.position;
    this.version += 1;
  }

  #isAmended(code: number | bigint): boolean {
    return amendment(this.vocabulary.text("amended", Number(code))) !== undefined;
  }
}

/**
 * One row per symbol: those asked for in the order of asking, there from the start so that no
 * row moves when the first quote of another arrives; then, if "*" is among them, the others by
 * name.
 */
export class KeyedRows extends StoredRows implements Rows {
  readonly shape = "keyed";
  #symbols: readonly string[];
  /** Where a symbol is kept, by its code. */
  readonly #slots = new Map<number, number>();
  #capacity = 64;
  /** What is shown, row by row: a symbol, and where it is kept if anything is known of it. */
  #shown: { symbol: string; slot: number | undefined }[] = [];
  #arrangement = 0;

  constructor(symbols: readonly string[] = []) {
    super();
    this.#symbols = symbols;
    this.#arrange();
  }

  /** Show these symbols from now on; what is known of others is kept, but not shown. */
  ask(symbols: readonly string[]): void {
    this.#symbols = symbols;
    this.#arrange();
  }

  get length(): number {
    return this.#shown.length;
  }

  override value(row: number, name: string): Cell {
    if (name === "symbol") return this.#shown[row]?.symbol ?? null;
    return super.value(row, name);
  }

  apply(batch: Batch): void {
    const first = batch.header.kind === "snapshot";
    if (first) this.#slots.clear();
    this.begin(batch, this.#capacity);
    const codes = batch.columns.get("symbol")?.values;
    if (!(codes instanceof Int32Array)) throw new Error("keyed rows have no column `symbol`");
    const knownBefore = this.#slots.size;
    const slots = Array.from(codes, (code) => this.#slotOf(code));
    for (const { name, values } of batch.columns.values()) {
      const column = this.columns.get(name);
      if (column === undefined) continue;
      for (const [row, slot] of slots.entries()) {
        if (slot < knownBefore) noteChange(column, slot, values[row], this.version);
        copyValue(column.values, slot, values, row);
      }
    }
    if (first || this.#slots.size > knownBefore) this.#arrange();
  }

  key(row: number): number {
    // Rows that are arranged anew are other rows: nothing of them may seem to have changed.
    return this.#arrangement * ARRANGEMENT + row;
  }

  protected slot(row: number): number {
    return this.#shown[row]?.slot ?? NO_SLOT;
  }

  #arrange(): void {
    const slots = new Map<string, number>();
    for (const [code, slot] of this.#slots) {
      slots.set(this.vocabulary.text("symbol", code) ?? "", slot);
    }
    const asked = new Set(this.#symbols);
    const all = asked.size === 0 || asked.delete("*");
    const others = all ? [...slots.keys()].filter((symbol) => !asked.has(symbol)).sort() : [];
    this.#shown = [...asked, ...others].map((symbol) => ({ symbol, slot: slots.get(symbol) }));
    this.#arrangement += 1;
  }

  #slotOf(code: number): number {
    const known = this.#slots.get(code);
    if (known !== undefined) return known;
    const slot = this.#slots.size;
    this.#slots.set(code, slot);
    if (slot >= this.#capacity) {
      this.#capacity *= 2;
      for (const column of this.columns.values()) grow(column, this.#capacity);
    }
    return slot;
  }
}

/** More than there are symbols. */
const ARRANGEMENT = 1e7;

/** Where nothing is kept: reading there gives nothing. */
const NO_SLOT = -1;

function noteChange(
  column: Stored,
  slot: number,
  next: number | bigint | undefined,
  version: number,
): void {
  const before = column.values[slot];
  if (next === undefined || before === undefined || next === before) return;
  if (Number.isNaN(next) && Number.isNaN(before)) return;
  column.moves[slot] = direction(Number(before), Number(next));
  column.changes[slot] = version;
}

function direction(before: number, next: number): Move {
  if (next > before) return 1;
  return next < before ? -1 : 0;
}

/** The newest rows, newest first, in a ring. */
export class TapeRows extends StoredRows implements Rows {
  readonly shape = "tape";
  readonly #capacity: number;
  #held = 0;
  /** Last price or close of each symbol, and its last direction. */
  readonly #last = new Map<number, { value: number; move: Move }>();

  constructor(capacity: number = TAPE_CAPACITY) {
    super();
    this.#capacity = capacity;
  }

  get length(): number {
    return this.#held;
  }

  apply(batch: Batch): void {
    const { header } = batch;
    // Rows that were skipped leave a hole in the positions: what is before it is too old to show.
    if (header.kind === "snapshot" || header.skipped > 0) {
      this.#held = 0;
      this.#last.clear();
    }
    this.begin(batch, this.#capacity);
    const skip = Math.max(header.rows - this.#capacity, 0);
    const first = header.position - header.rows;
    const fresh = header.kind === "delta" ? this.version : 0;
    // The rows lie in the ring in one piece, or in two where it begins again.
    for (let from = skip; from < header.rows; ) {
      const slot = (first + from) % this.#capacity;
      const to = Math.min(from + this.#capacity - slot, header.rows);
      for (const { name, values } of batch.columns.values()) {
        const column = this.columns.get(name);
        if (column === undefined) continue;
        copyValues(column.values, slot, values, from, to);
        column.changes.fill(fresh, slot, slot + to - from);
        column.moves.fill(0, slot, slot + to - from);
      }
      for (; from < to; from++) this.#noteMove((first + from) % this.#capacity);
    }
    this.#held = Math.min(this.#held + header.rows - skip, this.#capacity);
  }

  key(row: number): number {
    return this.position - 1 - row;
  }

  protected slot(row: number): number {
    return (this.position - 1 - row) % this.#capacity;
  }

  /**
   * An unchanged price keeps its last direction, as on any ticker: a zero-plus tick is a plus.
   * A trade that does not count has none, and the next one is not compared with it.
   */
  #noteMove(slot: number): void {
    const column = this.columns.get("price") ?? this.columns.get("close");
    const amended = Number(this.columns.get("amended")?.values[slot] ?? -1);
    if (column === undefined) return;
    if (amendment(this.vocabulary.text("amended", amended))?.kind === "void") return;
    const symbol = Number(this.columns.get("symbol")?.values[slot] ?? -1);
    const value = Number(column.values[slot]);
    const last = this.#last.get(symbol);
    const move = last === undefined ? 0 : direction(last.value, value) || last.move;
    column.moves[slot] = move;
    this.#last.set(symbol, { value, move });
  }
}
