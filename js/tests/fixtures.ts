/** Messages written by Python (tests/view/write_fixtures.py), and messages made by hand. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Batch, readBatch } from "../src/delta";
import type { ColumnHeader, DataMessage, Dtype, Status } from "../src/model";

/** One message as a browser gets it, and what it should read in it. */
export interface Told {
  readonly message: DataMessage;
  readonly buffer: Uint8Array;
  readonly expected: Readonly<Record<string, readonly (number | string)[]>>;
}

export function told(name: "tape" | "keyed"): readonly [Told, Told, Told] {
  const stored = read(name) as {
    message: DataMessage;
    buffer: string;
    expected: Told["expected"];
  }[];
  const messages = stored.map((each) => ({
    ...each,
    buffer: Uint8Array.from(Buffer.from(each.buffer, "base64")),
  }));
  const [first, second, third] = messages;
  if (first === undefined || second === undefined || third === undefined) {
    throw new Error(`${name}.json holds fewer than three messages`);
  }
  return [first, second, third];
}

function read(name: string): unknown {
  const path = join(dirname(fileURLToPath(import.meta.url)), "fixtures", `${name}.json`);
  return JSON.parse(readFileSync(path, "utf8"));
}

type Matter = "live" | "waiting" | "closed" | "troubled";

/** Statuses as Python tells them, by what is the matter. */
export const STATUSES = read("status") as Readonly<Record<Matter, Status>>;

export function batchOf({ message, buffer }: Told): Batch {
  return readBatch(message, buffer);
}

interface Made {
  readonly kind?: "snapshot" | "delta";
  readonly shape?: "keyed" | "tape";
  readonly seq?: number;
  readonly epoch?: number;
  readonly position?: number;
  readonly skipped?: number;
  readonly categories?: DataMessage["categories"];
}

const CODED = new Set(["symbol", "amended"]);

/** A batch made by hand: columns of numbers, `symbol` and `amended` as codes. */
export function made(columns: Readonly<Record<string, number[]>>, given: Made = {}): Batch {
  const rows = Object.values(columns)[0]?.length ?? 0;
  const headers: ColumnHeader[] = [];
  const buffer = new ArrayBuffer(Object.keys(columns).length * rows * 8);
  for (const [name, values] of Object.entries(columns)) {
    const offset = headers.length * rows * 8;
    const dtype: Dtype = CODED.has(name) ? "category" : "float64";
    if (dtype === "category") new Int32Array(buffer, offset, rows).set(values);
    else new Float64Array(buffer, offset, rows).set(values);
    headers.push({ name, dtype, offset });
  }
  const position = given.position ?? rows;
  const message: DataMessage = {
    kind: given.kind ?? "snapshot",
    seq: given.seq ?? 1,
    epoch: given.epoch ?? 0,
    shape: given.shape ?? "tape",
    base: position - rows - (given.skipped ?? 0),
    position,
    rows,
    skipped: given.skipped ?? 0,
    columns: headers,
    categories: given.categories ?? {},
  };
  return readBatch(message, buffer);
}

/** A stream of which nothing is known but that it is live. */
export const LIVE: Status = {
  state: "live",
  feed: "iex",
  origin: "live",
  detail: "",
  waits_s: null,
  rate: 100,
  lag_s: 0.012,
  lag_p99_s: null,
  lag_now_s: null,
  skew_s: null,
  age_s: 0,
  received: 10,
  unreadable: 0,
  reconnects: 0,
  dropped: 0,
  coalesced: 0,
  market: { phase: "unknown", opens_ms: null, closes_ms: null },
  gaps: { open: 0, pending: 0, repaired: 0, missed: 0 },
  subscriptions: { confirmed: 0, pending: 0, refused: 0 },
  refused: [],
  freshness: { live: 0, quiet: 0, stale: 0, waiting: 0, closed: 0 },
  stale: { count: 0, first: [] },
  all_stale: false,
  trading: { halted: 0, count: 0, first: [] },
  shown: { count: 0, first: [] },
};
