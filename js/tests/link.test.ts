// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { HostBuffer } from "../src/delta";
import { Link } from "../src/link";
import type { DataMessage, FromKernel, ToKernel } from "../src/model";
import { LIVE, told } from "./fixtures";

/** The kernel's end: what was said to it, and a way to speak. */
class Kernel {
  readonly heard: ToKernel[] = [];
  #listener: ((message: FromKernel, buffers: readonly HostBuffer[]) => void) | undefined;

  on(_: string, listener: (message: FromKernel, buffers: readonly HostBuffer[]) => void): void {
    this.#listener = listener;
  }

  off(): void {
    this.#listener = undefined;
  }

  send(message: ToKernel): void {
    this.heard.push(message);
  }

  say(message: FromKernel, ...buffers: HostBuffer[]): void {
    this.#listener?.(message, buffers);
  }

  kinds(): string[] {
    return this.heard.map((message) => message.kind);
  }
}

const [{ message: snapshot, buffer }, { message: delta, buffer: deltaBuffer }] = told("tape");

describe("Link", () => {
  let kernel: Kernel;
  let link: Link;
  let end: () => void;
  let detach: () => void;
  let rows: string[];
  let seen: boolean[];

  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal("IntersectionObserver", undefined);
    kernel = new Kernel();
    rows = [];
    seen = [];
    link = new Link(kernel, {
      data: ({ header }) => rows.push(`${header.kind} ${header.seq}`),
      status: ({ state }) => rows.push(state),
      visible: (visible) => seen.push(visible),
    });
    end = link.listen();
    detach = link.attach(document.createElement("div"));
  });

  afterEach(() => {
    end();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  function next(seq: number, fields: Partial<DataMessage> = {}): void {
    kernel.say({ ...delta, seq, ...fields }, deltaBuffer);
  }

  it("says hello when there is something to draw, and not twice for two views", () => {
    link.attach(document.createElement("div"));
    expect(kernel.heard).toEqual([
      { kind: "hello", view: expect.any(String), visible: true, interval_ms: 100 },
    ]);
  });

  it("says hello again until it is heard", () => {
    vi.advanceTimersByTime(4_000);
    expect(kernel.kinds()).toEqual(["hello", "hello", "hello", "hello"]);
    kernel.say(snapshot, buffer);
    vi.advanceTimersByTime(60_000);
    expect(kernel.kinds().filter((kind) => kind === "hello")).toHaveLength(4);
  });

  it("passes on messages in order", () => {
    kernel.say(snapshot, buffer);
    next(2, { status: LIVE });
    kernel.say({ kind: "status", status: { ...LIVE, state: "stopped" } });
    expect(rows).toEqual(["snapshot 1", "delta 2", "live", "stopped"]);
  });

  it("asks once for a snapshot when a message is missing, and heals by it", () => {
    kernel.say(snapshot, buffer);
    next(3);
    next(4);
    expect(rows).toEqual(["snapshot 1"]);
    expect(kernel.kinds()).toEqual(["hello", "resync"]);
    kernel.say({ ...snapshot, seq: 5 }, buffer);
    next(6);
    expect(rows).toEqual(["snapshot 1", "snapshot 5", "delta 6"]);
  });

  it("asks again when the snapshot does not come", () => {
    kernel.say(snapshot, buffer);
    next(3);
    vi.advanceTimersByTime(6_000);
    next(4);
    expect(kernel.kinds().filter((kind) => kind === "resync")).toHaveLength(2);
  });

  it("does not patch across an epoch", () => {
    kernel.say(snapshot, buffer);
    next(2, { epoch: 1 });
    expect(rows).toEqual(["snapshot 1"]);
    expect(kernel.heard.at(-1)?.kind).toBe("resync");
  });

  it("acknowledges the fourth message, or the first after a while", () => {
    kernel.say(snapshot, buffer);
    link.painted(3);
    expect(kernel.heard.at(-1)).toMatchObject({ kind: "ack", seq: 1, draw_ms: 3 });
    next(2);
    link.painted(1);
    expect(kernel.heard.at(-1)).toMatchObject({ seq: 1 });
    vi.advanceTimersByTime(400);
    expect(kernel.heard.at(-1)).toMatchObject({ kind: "ack", seq: 2 });
    for (const seq of [3, 4, 5, 6]) {
      next(seq);
      link.painted(1);
    }
    expect(kernel.heard.at(-1)).toMatchObject({ kind: "ack", seq: 6 });
  });

  it("tells at once that the last view is gone, and that there is one again", () => {
    kernel.say(snapshot, buffer);
    detach();
    expect(kernel.heard.at(-1)).toMatchObject({ kind: "visibility", visible: false });
    link.attach(document.createElement("div"));
    expect(kernel.heard.at(-1)).toMatchObject({ kind: "visibility", visible: true });
    expect(seen).toEqual([true, false, true]);
  });

  it("tells a hidden tab after a moment, and does not make the kernel wait for it", () => {
    kernel.say(snapshot, buffer);
    const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    document.dispatchEvent(new Event("visibilitychange"));
    expect(kernel.heard.at(-1)?.kind).toBe("hello");
    vi.advanceTimersByTime(300);
    expect(kernel.heard.at(-1)).toMatchObject({ kind: "visibility", visible: false });
    next(2);
    expect(kernel.heard.at(-1)).toMatchObject({ kind: "ack", seq: 2 });
    hidden.mockReturnValue(false);
    document.dispatchEvent(new Event("visibilitychange"));
    expect(kernel.heard.at(-1)).toMatchObject({ kind: "visibility", visible: true });
  });

  it("survives a kernel that is gone", () => {
    kernel.send = () => {
      throw new Error("Cannot send");
    };
    kernel.say(snapshot, buffer);
    expect(() => link.painted(1)).not.toThrow();
  });

  it("leaves nothing running behind", () => {
    kernel.say(snapshot, buffer);
    link.painted(1);
    next(2);
    link.painted(1);
    detach();
    end();
    expect(vi.getTimerCount()).toBe(0);
    kernel.say({ kind: "status", status: LIVE });
    expect(rows).toEqual(["snapshot 1", "delta 2"]);
  });
});
