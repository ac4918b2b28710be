/** The state and the messages that Python and the browser share; docs/formats.md says more. */

/** The synced traits of every live view. */
export interface ViewState {
  title: string;
  channel: string;
  /** As asked for, in that order; "*" among them means all. */
  symbols: string[];
}

export interface TableState extends ViewState {
  height: number | null;
}

export type Dtype = "float64" | "time" | "category" | "uint64";

export interface ColumnHeader {
  readonly name: string;
  readonly dtype: Dtype;
  /** The byte of the buffer at which the column begins; a multiple of 8. */
  readonly offset: number;
}

/** New strings of a category column: those from code `from` on. */
export interface CategoryNews {
  readonly from: number;
  readonly names: readonly string[];
}

export type Shape = "keyed" | "tape";

/** The header of a message with rows. */
export interface DataMessage {
  readonly kind: "snapshot" | "delta";
  readonly seq: number;
  readonly epoch: number;
  readonly shape: Shape;
  readonly base: number;
  readonly position: number;
  readonly rows: number;
  readonly skipped: number;
  readonly columns: readonly ColumnHeader[];
  readonly categories: Readonly<Record<string, CategoryNews>>;
  readonly status?: Status;
}

export interface StatusMessage {
  readonly kind: "status";
  readonly status: Status;
}

export type FromKernel = DataMessage | StatusMessage;

export type ToKernel =
  | { kind: "hello"; view: string; visible: boolean; interval_ms: number }
  | { kind: "ack"; view: string; seq: number; draw_ms: number }
  | { kind: "visibility"; view: string; visible: boolean }
  | { kind: "resync"; view: string; seq: number };

export type StreamState = "connecting" | "waiting" | "live" | "reconnecting" | "stopped" | "failed";

/** What the badge and its details show; docs/formats.md says more. */
export interface Status {
  readonly state: StreamState;
  readonly feed: string;
  readonly origin: "live" | "simulated" | "replay";
  /** One sentence for a person, or nothing. */
  readonly detail: string;
  /** Seconds for which the stream still waits for its place; counted down here. */
  readonly waits_s: number | null;
  /** Messages a second. */
  readonly rate: number;
  /** Seconds from the exchange to the kernel: the median of late, the 99th percentile, now. */
  readonly lag_s: number | null;
  readonly lag_p99_s: number | null;
  readonly lag_now_s: number | null;
  /** Seconds by which the kernel's clock is ahead of the server's. */
  readonly skew_s: number | null;
  /** Seconds since the last data message, when this status was made. */
  readonly age_s: number | null;
  readonly received: number;
  readonly unreadable: number;
  readonly reconnects: number;
  /** Messages that handlers never saw. */
  readonly dropped: number;
  /** Rows this view was not sent one by one, because newer ones overtook them. */
  readonly coalesced: number;
  readonly market: Market;
  /** Losses by what became of them. */
  readonly gaps: Readonly<Record<"open" | "pending" | "repaired" | "missed", number>>;
  readonly subscriptions: Readonly<Record<"confirmed" | "pending" | "refused", number>>;
  /** The first that were refused. */
  readonly refused: readonly Refusal[];
  readonly freshness: Readonly<Record<Freshness, number>>;
  readonly stale: Names;
  /** Nothing comes of all that this view shows, although something should. */
  readonly all_stale: boolean;
  readonly trading: Trading;
  readonly shown: Shown;
  /** What the log has to add, if it has. */
  readonly log?: LogNews;
}

export type Freshness = "live" | "quiet" | "stale" | "waiting" | "closed";

export interface Market {
  readonly phase: "open" | "pre" | "post" | "closed" | "unknown";
  readonly opens_ms: number | null;
  readonly closes_ms: number | null;
}

export interface Refusal {
  readonly channel: string;
  readonly symbol: string;
  readonly reason: string;
}

/** How many symbols there are, and the names of the first of them. */
export interface Names {
  readonly count: number;
  readonly first: readonly string[];
}

/** The symbols that the view shows, in its order: how many, and the first of them. */
export interface Shown {
  readonly count: number;
  readonly first: readonly ShownSymbol[];
}

export interface ShownSymbol {
  readonly symbol: string;
  readonly subscription: "confirmed" | "pending" | "refused";
  readonly freshness: Freshness;
  /** Messages a second it has had lately. */
  readonly rate: number;
  /** Seconds since its last message, when this status was made. */
  readonly age_s: number | null;
  readonly halted: boolean;
  readonly limit_up: number | null;
  readonly limit_down: number | null;
}

/** Halts and price bands, the halts first. */
export interface Trading {
  readonly halted: number;
  readonly count: number;
  readonly first: readonly SymbolTrading[];
}

export interface SymbolTrading {
  readonly symbol: string;
  readonly halted: boolean;
  readonly message: string;
  readonly reason: string;
  readonly since_ms: number | null;
  readonly limit_up: number | null;
  readonly limit_down: number | null;
}

/** Lines of the log from number `from` on; those before it that were not told are left out. */
export interface LogNews {
  readonly from: number;
  readonly lines: readonly LogLine[];
}

export interface LogLine {
  readonly time_ms: number;
  /** Who says it: "stream", or the handler's name. */
  readonly source: string;
  readonly level: "output" | "info" | "error";
  readonly text: string;
}
