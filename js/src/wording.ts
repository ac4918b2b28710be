/** What the badge says: what state, whose data, what is the matter, how much, how late, how old. */
import * as format from "./format";
import type { Status, StreamState } from "./model";
import { type Tone, type Warning, warnings } from "./warnings";

/** What the badge shows at one moment. */
export interface Wording {
  readonly word: string;
  /** A shape that differs from state to state, for those who do not see its colour. */
  readonly mark: string;
  readonly tone: Tone;
  readonly feed: string;
  /** SIMULATED or REPLAY, or nothing for the real market. */
  readonly origin: string;
  /** What is the matter, the most important first. */
  readonly warnings: readonly Warning[];
  readonly facts: readonly Fact[];
  readonly detail: string;
  /** The numbers in the view are not today's truth any more. */
  readonly stale: boolean;
}

export interface Fact {
  readonly label: string;
  readonly value: string;
  readonly warn?: boolean;
}

/** What a page knows beside the last status, in seconds. */
export interface Moment {
  /** The age of the last data message now. */
  readonly age_s: number | null;
  /** How long the kernel has not been heard. */
  readonly silent_s: number;
  /** For how long the stream still waits for its place. */
  readonly waits_s: number | null;
  /** The stream's rate when it last had one. */
  readonly usual_rate: number;
}

const STATES: Readonly<Record<StreamState, readonly [word: string, mark: string, tone: Tone]>> = {
  connecting: ["Connecting", "◌", "muted"],
  waiting: ["Waiting", "◔", "warn"],
  live: ["Live", "●", "good"],
  reconnecting: ["Reconnecting", "↻", "warn"],
  stopped: ["Stopped", "■", "muted"],
  failed: ["Failed", "✕", "bad"],
};

/** A kernel sends a sign of life every second; after this long without one it is missed. */
const SILENT_S = 5;

/**
 * Where the kernel has not judged any symbol, a live stream counts as stale when nothing came
 * for this long, and for ten times its usual gap.
 */
const STALE_S = 5;
const STALE_GAPS = 10;

export function wording(status: Status | null, moment: Moment): Wording {
  const { silent_s } = moment;
  if (status === null) {
    return {
      word: silent_s > SILENT_S ? "Waiting for the kernel" : "Opening",
      mark: "◌",
      tone: "muted",
      feed: "",
      origin: "",
      warnings: [],
      facts: [],
      detail: "",
      stale: false,
    };
  }
  let [word, mark, tone] = STATES[status.state] ?? [status.state, "?", "muted"];
  let detail = status.detail;
  let stale = status.state !== "live" && status.received > 0;
  let told = warnings(status);
  const old = isOld(status, moment);
  if (silent_s > SILENT_S && status.state !== "stopped") {
    [word, mark, tone, stale, told] = ["No word from the kernel", "✕", "bad", true, []];
    detail = `The kernel was last heard ${format.age(silent_s)} ago; it may have been restarted or be held up.`;
  } else if (status.state === "live" && old) {
    [word, mark, tone, stale] = ["Stale", "◐", "warn", true];
    // It is said already, and of all that is shown.
    told = told.filter(({ kind }) => kind !== "stale");
  }
  return {
    word,
    mark,
    tone,
    feed: status.feed.toUpperCase(),
    origin: status.origin === "live" ? "" : status.origin.toUpperCase(),
    warnings: told,
    facts: facts(status, moment, old),
    detail,
    stale,
  };
}

/** Nothing comes although something should: as the kernel judges, or by the age alone. */
function isOld(status: Status, { age_s, usual_rate }: Moment): boolean {
  const { live, quiet, stale, closed } = status.freshness;
  if (live + quiet + stale + closed > 0) return status.all_stale;
  if (status.market.phase === "closed") return false;
  const limit_s = Math.max(STALE_S, usual_rate > 0 ? STALE_GAPS / usual_rate : 0);
  return age_s !== null && age_s > limit_s;
}

function facts(status: Status, { age_s, waits_s }: Moment, old: boolean): readonly Fact[] {
  const list: Fact[] = [];
  if (status.state === "waiting" && waits_s !== null) {
    list.push({ label: "gives up in", value: format.age(Math.ceil(waits_s)), warn: true });
  }
  if (status.state === "live") list.push({ label: "", value: format.rate(status.rate) });
  if (status.state === "live" && status.lag_s !== null) {
    list.push({ label: "lag", value: format.lag(status.lag_s), warn: status.lag_s > 1 });
  }
  if (age_s !== null) list.push({ label: "last", value: `${format.age(age_s)} ago`, warn: old });
  return list;
}
