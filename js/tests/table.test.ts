// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { HostBuffer } from "../src/delta";
import type { FromKernel, TableState, ToKernel } from "../src/model";
import widget from "../src/table";
import { LIVE, STATUSES, told } from "./fixtures";

type Listener = (message: FromKernel, buffers: readonly HostBuffer[]) => void;

/** A stand-in for anywidget's model. */
class Model {
  readonly heard: ToKernel[] = [];
  readonly listeners = new Set<Listener>();
  readonly watchers = new Set<() => void>();
  readonly state: TableState = {
    title: "trades: AAPL, MSFT",
    channel: "trades",
    symbols: ["AAPL", "MSFT"],
    height: null,
  };
  get = <K extends keyof TableState>(name: K): TableState[K] => this.state[name];
  on = (event: string, listener: Listener) => this.#of(event).add(listener);
  off = (event: string, listener: Listener) => this.#of(event).delete(listener);
  #of = (event: string) =>
    (event === "msg:custom" ? this.listeners : this.watchers) as Set<unknown>;
  send = (message: ToKernel) => this.heard.push(message);
  say(message: FromKernel, ...buffers: HostBuffer[]): void {
    for (const listener of this.listeners) listener(message, buffers);
  }
}

describe("the table widget", () => {
  let model: Model;
  let stop: () => void;
  let render: () => { el: HTMLElement; end: () => void };

  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal("IntersectionObserver", undefined);
    model = new Model();
    const definition = widget();
    // The stand-in offers what the widget uses of a model.
    stop = definition.initialize({ model } as never);
    render = () => {
      const el = document.createElement("div");
      document.body.append(el);
      const end = definition.render({ model, el } as never);
      return { el, end };
    };
  });

  afterEach(() => {
    stop();
    document.body.replaceChildren();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  function play(): void {
    for (const [at, { message, buffer }] of told("tape").slice(0, 2).entries()) {
      model.say({ ...message, ...(at === 0 ? { status: LIVE } : {}) }, buffer);
    }
    vi.advanceTimersByTime(50);
  }

  it("goes from messages to rows and a badge", () => {
    const { el } = render();
    play();
    expect(el.textContent).toContain("561.0045");
    expect(el.textContent).toContain("Live");
    expect(el.querySelector(".anb-title")?.textContent).toBe("TradesAAPL, MSFT");
    expect(model.heard.at(-1)).toMatchObject({ kind: "ack", seq: 2 });
  });

  it("takes over other symbols while it is shown", () => {
    const { el } = render();
    play();
    Object.assign(model.state, { title: "trades: SPY", symbols: ["SPY"] });
    for (const changed of model.watchers) changed();
    vi.advanceTimersByTime(50);
    expect(el.querySelector(".anb-title")?.textContent).toBe("TradesSPY");
  });

  it("draws a second view from what it has, with one hello for both", () => {
    const first = render();
    play();
    const second = render();
    vi.advanceTimersByTime(50);
    expect(second.el.textContent).toContain("561.0045");
    expect(second.el.textContent).toContain("Live");
    first.end();
    expect(model.heard.filter(({ kind }) => kind === "hello")).toHaveLength(1);
    expect(model.heard.some(({ kind }) => kind === "visibility")).toBe(false);
  });

  it("shows a second view the log that came before it", () => {
    render();
    model.say({ kind: "status", status: STATUSES.troubled });
    model.say({ kind: "status", status: LIVE });
    const { el } = render();
    expect(el.querySelector(".anb-unread")?.textContent).toBe("1 error");
    el.querySelector("button")?.click();
    expect(el.querySelector(".anb-log")?.textContent).toContain("ValueError");
  });

  it("is the same after it was taken away and shown again", () => {
    render().end();
    expect(model.heard.at(-1)).toMatchObject({ kind: "visibility", visible: false });
    play();
    const { el } = render();
    vi.advanceTimersByTime(50);
    expect(el.textContent).toContain("561.0045");
  });

  it("leaves no timer and no listener behind", () => {
    const { end } = render();
    play();
    end();
    stop();
    vi.advanceTimersByTime(50);
    expect(model.listeners.size).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
  });
});
