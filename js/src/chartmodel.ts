/** What a chart shares with Python beyond what every view does. */
import type { BokehItem } from "./bokeh";
import type { DataMessage, ViewState } from "./model";

/** The synced traits of a chart. */
export interface ChartState extends ViewState {
  /** The figure, without data. */
  spec: BokehItem;
  /** A reference to the carrier of BokehJS, for `host.getModel`. */
  bokeh: string;
  symbol: string;
  /** The symbols to choose from. */
  choices: string[];
  /** Rows a chart holds at most. */
  capacity: number;
  /** How much time is in view while the chart follows its data. */
  window_ms: number;
  /** How long a bar lasts; 0 where a row is a moment. */
  interval_ms: number;
  /** Pixels of all panels together. */
  height: number;
  /** Pixels, or null for all the width there is. */
  width: number | null;
}

/** A data message of a chart tells whose rows it carries. */
export interface ChartMessage extends DataMessage {
  readonly symbol: string;
}
