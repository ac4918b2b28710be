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

/** What the badge shows. */
export interface Status {
  readonly state: StreamState;
  readonly feed: string;
  readonly origin: "live" | "simulated" | "replay";
  /** One sentence for a person, or nothing. */
  readonly detail: string;
  /** Messages a second. */
  readonly rate: number;
  readonly lag_s: number | null;
  /** Seconds since the last data message, when this status was made. */
  readonly age_s: number | null;
  readonly received: number;
  readonly unreadable: number;
  readonly reconnects: number;
  /** Rows this view was not sent one by one, because newer ones overtook them. */
  readonly coalesced: number;
}
