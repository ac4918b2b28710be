/**
 * The browser's end of the conversation with the frame clock: it says hello when there is a view
 * to draw, keeps messages in order, acknowledges what was painted, and tells whether anybody looks.
 */
import { type Batch, type HostBuffer, readBatch } from "./delta";
import type { DataMessage, FromKernel, Status, ToKernel } from "./model";

/** What a link needs of an anywidget model. */
export interface Channel {
  on(event: "msg:custom", listener: Listener): void;
  off(event: "msg:custom", listener: Listener): void;
  send(message: ToKernel): void;
}

type Listener = (message: FromKernel, buffers: readonly HostBuffer[]) => void;

/** What becomes of messages. */
export interface Sink {
  /** Rows, in order and without a gap. */
  data(batch: Batch): void;
  status(status: Status): void;
  /** The kernel sends while somebody can see the view, and is silent on purpose while not. */
  visible?(visible: boolean): void;
}

/** The quickest pace a host can stand; VS Code spells every byte as a number. */
const FRAME_MS = 100;
const SLOW_FRAME_MS = 200;

/** Acknowledge after this many messages, or this long, whichever is first. */
const ACK_EVERY = 4;
const ACK_MS = 400;

/** Say hello again after this long without an answer, then after twice as long, up to a limit. */
const GREET_MS = 500;
const GREET_MAX_MS = 8_000;

/** Ask again for a snapshot that does not come. */
const PATIENCE_MS = 5_000;

/** Scrolling past is no reason to start and stop the kernel. */
const HIDE_MS = 300;

export class Link {
  readonly #channel: Channel;
  readonly #sink: Sink;
  readonly #id = Math.random().toString(36).slice(2);
  /** Elements in which the model is drawn, and whether each can be seen. */
  readonly #views = new Map<HTMLElement, boolean>();
  #greeted = false;
  #greeting: ReturnType<typeof setTimeout> | undefined;
  #visible = false;
  #hiding: ReturnType<typeof setTimeout> | undefined;

  #sequence = 0;
  #epoch = -1;
  #synchronous = false;
  #asked = Number.NEGATIVE_INFINITY;

  #acked = 0;
  #ackedAt = Number.NEGATIVE_INFINITY;
  #acking: ReturnType<typeof setTimeout> | undefined;
  #drawMs = 0;

  constructor(channel: Channel, sink: Sink) {
    this.#channel = channel;
    this.#sink = sink;
  }

  /** Listen for messages; returns the end of it. */
  listen(): () => void {
    const listener: Listener = (message, buffers) => this.#receive(message, buffers);
    this.#channel.on("msg:custom", listener);
    return () => {
      this.#channel.off("msg:custom", listener);
      clearTimeout(this.#acking);
      clearTimeout(this.#hiding);
      clearTimeout(this.#greeting);
    };
  }

  /** A view is drawn in `el`, and kept up to date while it can be seen; returns the end of it. */
  attach(el: HTMLElement): () => void {
    // Until the observer has looked, a new view counts as seen: the cell has just been run.
    this.#views.set(el, true);
    const observer = observe(el, (seen) => {
      this.#views.set(el, seen);
      this.#look();
    });
    const look = () => this.#look();
    document.addEventListener("visibilitychange", look);
    this.#look();
    if (!this.#greeted) this.#greet(GREET_MS);
    return () => {
      observer?.disconnect();
      document.removeEventListener("visibilitychange", look);
      this.#views.delete(el);
      this.#look();
    };
  }

  /** Everything received so far is on the screen; the last drawing took `drawMs`. */
  painted(drawMs: number): void {
    this.#drawMs = drawMs;
    const waiting = this.#sequence - this.#acked;
    if (waiting <= 0) return;
    const rest = this.#ackedAt + ACK_MS - performance.now();
    if (waiting >= ACK_EVERY || rest <= 0) {
      this.#ack();
    } else {
      this.#acking ??= setTimeout(() => this.#ack(), rest);
    }
  }

  /**
   * Say hello, and again when nothing is heard: a first hello may have been queued behind a
   * busy cell, before the host had a way around it.
   */
  #greet(again: number): void {
    this.#greeted = true;
    const interval_ms = "vscodeThemeKind" in document.body.dataset ? SLOW_FRAME_MS : FRAME_MS;
    this.#send({ kind: "hello", view: this.#id, visible: this.#visible, interval_ms });
    this.#greeting = setTimeout(() => this.#greet(Math.min(2 * again, GREET_MAX_MS)), again);
  }

  #ack(): void {
    clearTimeout(this.#acking);
    this.#acking = undefined;
    this.#acked = this.#sequence;
    this.#ackedAt = performance.now();
    const draw_ms = Math.round(this.#drawMs * 10) / 10;
    this.#send({ kind: "ack", view: this.#id, seq: this.#acked, draw_ms });
  }

  #receive(message: FromKernel, buffers: readonly HostBuffer[]): void {
    if (this.#greeted) clearTimeout(this.#greeting);
    if (message.kind === "snapshot" || message.kind === "delta") {
      if (this.#inOrder(message)) this.#sink.data(readBatch(message, buffers[0]));
      // Nothing is painted in a hidden page, and the kernel must not wait for it.
      if (!this.#visible && this.#synchronous) this.#ack();
    }
    if (message.status !== undefined) this.#sink.status(message.status);
  }

  #inOrder({ kind, seq, epoch }: DataMessage): boolean {
    if (kind === "snapshot") {
      this.#synchronous = true;
      this.#acked = Math.min(this.#acked, seq - 1);
    } else if (this.#synchronous && (seq !== this.#sequence + 1 || epoch !== this.#epoch)) {
      this.#synchronous = false;
      this.#asked = Number.NEGATIVE_INFINITY;
    }
    if (this.#synchronous) {
      this.#sequence = seq;
      this.#epoch = epoch;
      return true;
    }
    if (this.#greeted && performance.now() - this.#asked > PATIENCE_MS) {
      this.#asked = performance.now();
      this.#send({ kind: "resync", view: this.#id, seq: this.#sequence });
    }
    return false;
  }

  /** Tell the kernel when the view comes into sight at once, and out of it after a moment. */
  #look(): void {
    const seen = !document.hidden && [...this.#views.values()].includes(true);
    clearTimeout(this.#hiding);
    if (seen) {
      this.#setVisible(true);
    } else if (this.#views.size === 0) {
      this.#setVisible(false);
    } else {
      this.#hiding = setTimeout(() => this.#setVisible(false), HIDE_MS);
    }
  }

  #setVisible(visible: boolean): void {
    if (visible === this.#visible) return;
    this.#visible = visible;
    this.#sink.visible?.(visible);
    if (this.#greeted) this.#send({ kind: "visibility", view: this.#id, visible });
  }

  #send(message: ToKernel): void {
    try {
      this.#channel.send(message);
    } catch {
      // The kernel is gone. The badge says so when nothing is heard for a while.
    }
  }
}

function observe(el: HTMLElement, seen: (seen: boolean) => void): IntersectionObserver | undefined {
  if (typeof IntersectionObserver === "undefined") return undefined;
  const observer = new IntersectionObserver((entries) => {
    const last = entries.at(-1);
    if (last !== undefined) seen(last.isIntersecting);
  });
  observer.observe(el);
  return observer;
}
