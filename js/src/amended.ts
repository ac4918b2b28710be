/** What was said of a row after it was sent, and what that means for whoever reads it. */
import type { Cell } from "./columns";

export interface Amendment {
  /** A row that does not count any more, or one whose values are others than first told. */
  readonly kind: "void" | "changed";
  readonly text: string;
}

/** By the words of the column `amended`. */
const AMENDMENTS: Readonly<Record<string, Amendment>> = {
  canceled: { kind: "void", text: "This trade was taken back and does not count." },
  error: { kind: "void", text: "This trade was reported in error and does not count." },
  incorrect: { kind: "void", text: "This trade does not count: another stands in its place." },
  corrected: {
    kind: "changed",
    text: "This trade was corrected after it was reported: these are the right values.",
  },
  updated: { kind: "changed", text: "This bar was sent again: these are its latest values." },
};

/** What a row of that label is, or nothing for one that is as it was sent. */
export function amendment(label: Cell): Amendment | undefined {
  return typeof label === "string" && label !== "" ? AMENDMENTS[label] : undefined;
}
