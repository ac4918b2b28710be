// @vitest-environment happy-dom
import type { AnyModel, Host, RenderProps } from "@anywidget/types";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SourceData } from "../src/bokeh";
import chart from "../src/chart";
import type { ChartState } from "../src/chartmodel";
import { STATUSES } from "./fixtures";

/** A Bokeh model that remembers what was set. */
function model(name: string, properties: Record<string, unknown> = {}) {
  const slots = new Set<() => void>();
  const change = {
    connect: (slot: () => void) => slots.add(slot).size > 0,
    disconnect: (slot: () => void) => slots.delete(slot),
  };
  const made = {
    name,
    tags: [] as unknown[],
    properties: { start: { change }, end: { change } },
    slots,
    setv(values: Record<string, unknown>) {
      Object.assign(made, values);
      for (const slot of slots) slot();
    },
    ...properties,
  };
  return made;
}

/** The page's BokehJS, with one figure in it. */
function stubBokeh() {
  const time = model("time", { start: 0, end: 1 }) as ReturnType<typeof model> & Span;
  const calls: string[] = [];
  const source = model("rows", {
    data: { time: Float64Array.of(Number.NaN) } as SourceData,
    stream(rows: SourceData, rollover: number) {
      calls.push(`stream ${rows["time"]?.length} of ${rollover}`);
    },
  }) as ReturnType<typeof model> & { data: SourceData };
  const axis = model("axis", { tags: [{ paint: { text_color: "muted" } }], text_color: "" });
  const models = [time, source, axis, model("last")];
  const document = {
    get_model_by_name: (name: string) => models.find((each) => each.name === name) ?? null,
    all_models: new Set(models),
    clear: vi.fn(),
  };
  const views = { roots: [{ el: globalThis.document.body, model: { document } }], clear: vi.fn() };
  const embed_item = vi.fn(async (_item: unknown, _target: HTMLElement) => views);
  return {
    bokeh: { version: "1", embed: { embed_item } },
    time,
    source,
    axis,
    views,
    document,
    calls,
  };
}

interface Span {
  start: number;
  end: number;
}

type Listener = (...args: unknown[]) => void;

/** A widget as a page has it, and the kernel's end of it. */
function stubWidget(state: Partial<ChartState> = {}) {
  const listeners = new Map<string, Set<Listener>>();
  const full: Record<string, unknown> = {
    title: "AAPL quotes",
    channel: "quotes",
    spec: { doc: {}, root_id: "p1", target_id: null },
    bokeh: "anywidget:carrier",
    symbol: "AAPL",
    choices: ["AAPL", "MSFT"],
    capacity: 100,
    window_ms: 60_000,
    interval_ms: 0,
    height: 320,
    width: null,
    ...state,
  };
  const fire = (event: string, ...args: unknown[]) => {
    for (const listener of listeners.get(event) ?? []) listener(...args);
  };
  const sent: { kind: string }[] = [];
  const widget = {
    get: (name: string) => full[name],
    set(name: string, value: unknown) {
      full[name] = value;
      fire(`change:${name}`);
    },
    save_changes: vi.fn(),
    send: (message: { kind: string }) => void sent.push(message),
    on(event: string, listener: Listener) {
      const known = listeners.get(event) ?? new Set();
      listeners.set(event, known.add(listener));
    },
    off(event: string, listener: Listener) {
      listeners.get(event)?.delete(listener);
    },
  };
  const count = () => [...listeners.values()].reduce((sum, each) => sum + each.size, 0);
  return { widget: widget as unknown as AnyModel<ChartState>, fire, sent, count };
}

const NAMES = ["timestamp", "bid_price", "bid_size", "ask_price", "ask_size"];

/** A message of quotes, one a second from `seconds` on. */
function quotes(kind: string, seq: number, seconds: number, bids: number[], symbol = "AAPL") {
  const rows = bids.length;
  const values = new Float64Array(rows * NAMES.length);
  bids.forEach((bid, row) => {
    const row_values = [(seconds + row) * 1000, bid, 100, bid + 0.02, 200];
    row_values.forEach((value, column) => {
      values[column * rows + row] = value;
    });
  });
  const columns = NAMES.map((name, at) => ({ name, dtype: "float64", offset: at * rows * 8 }));
  const header = { kind, seq, epoch: 0, shape: "tape", base: 0, position: 0, rows, skipped: 0 };
  return [{ ...header, columns, categories: {}, symbol }, [new DataView(values.buffer)]] as const;
}

const REGISTRY = Symbol.for("alpaca_nb.bokeh");

/** A chart in the page, with its figure drawn. */
async function drawn(state: Partial<ChartState> = {}) {
  const stub = stubBokeh();
  Reflect.set(globalThis, REGISTRY, new Map([["1", Promise.resolve(stub.bokeh)]]));
  const page = stubWidget(state);
  const definition = chart();
  const end = definition.initialize({ model: page.widget });
  const el = document.createElement("div");
  document.body.append(el);
  const host = {
    getModel: async () => ({ get: (name: string) => (name === "version" ? "1" : "") }),
  };
  const props = { model: page.widget, el, host: host as unknown as Host };
  const remove = definition.render(props as unknown as RenderProps<ChartState>);
  await settle();
  const button = (text: string) =>
    [...el.querySelectorAll("button")].find((each) => each.textContent === text);
  return { ...stub, ...page, el, end, remove, button };
}

/** Let promises and the frames of the page go by. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await vi.advanceTimersByTimeAsync(20);
}

beforeEach(() => {
  vi.useFakeTimers({
    toFake: [
      "setTimeout",
      "setInterval",
      "requestAnimationFrame",
      "cancelAnimationFrame",
      "clearTimeout",
      "clearInterval",
    ],
  });
});

afterEach(() => {
  vi.useRealTimers();
  document.body.replaceChildren();
  Reflect.deleteProperty(globalThis, REGISTRY);
});

describe("a chart", () => {
  it("says what it waits for until the first rows come", async () => {
    const { el, fire } = await drawn();
    const message = el.querySelector(".anb-message");
    expect(message?.textContent).toBe("Waiting for quotes of AAPL.");
    fire("msg:custom", ...quotes("snapshot", 1, 0, [10]));
    await settle();
    expect(message?.textContent).toBe("");
  });

  it("replaces its rows by a snapshot and streams what follows", async () => {
    const { fire, source, calls } = await drawn();
    fire("msg:custom", ...quotes("snapshot", 1, 0, [10, 11, 12]));
    await settle();
    expect([...(source.data["bid_price"] ?? [])]).toEqual([10, 11, 12]);
    expect(calls).toEqual([]);
    fire("msg:custom", ...quotes("delta", 2, 3, [13]));
    await settle();
    expect(calls).toEqual(["stream 1 of 100"]);
  });

  it("draws once for all messages of a frame of the page", async () => {
    const { fire, calls } = await drawn();
    fire("msg:custom", ...quotes("snapshot", 1, 0, [10, 11, 12]));
    await settle();
    fire("msg:custom", ...quotes("delta", 2, 3, [13]));
    fire("msg:custom", ...quotes("delta", 3, 4, [14, 15]));
    await settle();
    expect(calls).toEqual(["stream 3 of 100"]);
  });

  it("moves the axis along until a person pans, and again after Follow", async () => {
    const { fire, time, button } = await drawn();
    fire("msg:custom", ...quotes("snapshot", 1, 0, [10, 11, 12]));
    await settle();
    expect(button("Follow")?.hidden).toBe(true);
    const before = time.end;
    fire("msg:custom", ...quotes("delta", 2, 3, [13]));
    await settle();
    expect(time.end).toBeGreaterThan(before);

    time.setv({ start: time.start - 500, end: time.end - 500 });
    const panned = time.end;
    expect(button("Follow")?.hidden).toBe(false);
    fire("msg:custom", ...quotes("delta", 3, 4, [14]));
    await settle();
    expect(time.end).toBe(panned);

    button("Follow")?.click();
    await settle();
    expect(button("Follow")?.hidden).toBe(true);
    expect(time.end).toBeGreaterThan(panned);
  });

  it("stays where a person has panned and zoomed when a gap is filled", async () => {
    const { fire, time, source, button } = await drawn();
    fire("msg:custom", ...quotes("snapshot", 1, 0, [10, 11, 12, 13, 14, 15]));
    await settle();
    time.setv({ start: 500, end: 2_500 });
    fire("msg:custom", ...quotes("snapshot", 2, 0, [10, 11, 11.5, 12, 13, 14, 15, 16]));
    await settle();
    expect(source.data["bid_price"]?.length).toBe(8);
    expect([time.start, time.end]).toEqual([500, 2_500]);
    expect(button("Follow")?.hidden).toBe(false);
  });

  it("goes on following with the width that a person chose when a gap is filled", async () => {
    const { fire, time, button } = await drawn();
    fire("msg:custom", ...quotes("snapshot", 1, 0, Array(60).fill(10)));
    await settle();
    const { end } = time;
    time.setv({ start: end - 10_000, end });
    fire("msg:custom", ...quotes("snapshot", 2, 0, Array(64).fill(10)));
    await settle();
    expect(time.end).toBeGreaterThan(end);
    expect(time.end - time.start).toBeCloseTo(10_000, 3);
    expect(button("Follow")?.hidden).toBe(true);
  });

  it("tells the newest row while no pointer is on it", async () => {
    const { el, fire } = await drawn();
    fire("msg:custom", ...quotes("snapshot", 1, 0, [10, 11.5]));
    await settle();
    expect(el.querySelector(".anb-readout")?.textContent).toContain("11.50 × 100");
  });

  it("asks for the symbol that a person chooses, and waits for its rows", async () => {
    const { el, fire, widget } = await drawn();
    fire("msg:custom", ...quotes("snapshot", 1, 0, [10]));
    await settle();
    const select = el.querySelector("select");
    if (select === null) throw new Error("there is nothing to choose from");
    expect([...select.options].map((option) => option.value)).toEqual(["AAPL", "MSFT"]);
    select.value = "MSFT";
    select.dispatchEvent(new Event("change"));
    await settle();
    expect(widget.get("symbol")).toBe("MSFT");
    expect(widget.save_changes).toHaveBeenCalled();
    expect(el.querySelector(".anb-message")?.textContent).toBe("Waiting for quotes of MSFT.");
    fire("msg:custom", ...quotes("snapshot", 2, 0, [400], "MSFT"));
    await settle();
    expect(el.querySelector(".anb-message")?.textContent).toBe("");
  });

  it("shows a symbol as text, whatever it looks like", async () => {
    const { el } = await drawn({ symbol: "<b>X</b>", choices: ["<b>X</b>"] });
    expect(el.querySelector(".anb-title strong")?.textContent).toBe("<b>X</b>");
    expect(el.querySelector("b b")).toBeNull();
  });

  it("takes the colours of the theme when it is drawn", async () => {
    const { axis } = await drawn();
    expect(axis).toHaveProperty("text_color", "#69737f");
  });

  it("says in its place why it cannot be drawn", async () => {
    const stub = stubWidget();
    const definition = chart();
    definition.initialize({ model: stub.widget });
    const el = document.createElement("div");
    const host = { getModel: () => Promise.reject(new Error("no script")) };
    definition.render({ model: stub.widget, el, host } as unknown as RenderProps<ChartState>);
    await settle();
    expect(el.querySelector(".anb-message")?.textContent).toBe(
      "This chart cannot be drawn: no script",
    );
  });

  it("lets the page scroll past it until it is clicked", async () => {
    const { el } = await drawn();
    const plot = el.querySelector<HTMLElement>(".anb-plot");
    const inner = plot?.firstElementChild;
    const heard = vi.fn();
    inner?.addEventListener("wheel", heard);
    inner?.dispatchEvent(new WheelEvent("wheel", { bubbles: true }));
    expect(heard).not.toHaveBeenCalled();
    expect(el.querySelector(".anb-hint")?.hasAttribute("data-shown")).toBe(true);
    inner?.dispatchEvent(new Event("pointerdown", { bubbles: true }));
    inner?.dispatchEvent(new WheelEvent("wheel", { bubbles: true }));
    expect(heard).toHaveBeenCalledOnce();
  });

  it("tells the details of its stream and the log above the figure", async () => {
    const { el, fire } = await drawn();
    fire("msg:custom", { kind: "status", status: STATUSES.troubled }, []);
    el.querySelector<HTMLElement>(".anb-toggle")?.click();
    const details = el.querySelector<HTMLElement>(".anb-details");
    expect(details?.hidden).toBe(false);
    expect(details?.textContent).toContain("ValueError");
    expect(details?.nextElementSibling).toBe(el.querySelector(".anb-chart"));
  });

  it("does not take it for silence that nobody looks", async () => {
    const { el, fire, sent } = await drawn();
    fire("msg:custom", { kind: "status", status: STATUSES.live }, []);
    const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    document.dispatchEvent(new Event("visibilitychange"));
    await settle();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(sent.at(-1)).toMatchObject({ kind: "visibility", visible: false });
    vi.spyOn(performance, "now").mockReturnValue(performance.now() + 60_000);
    hidden.mockReturnValue(false);
    document.dispatchEvent(new Event("visibilitychange"));
    await vi.advanceTimersByTimeAsync(1_000);
    expect(el.querySelector(".anb-state")?.textContent).toBe("Live");
  });

  it("leaves nothing behind when it is removed", async () => {
    const { views, document, count, remove, end, time } = await drawn();
    remove();
    end();
    expect(views.clear).toHaveBeenCalledOnce();
    expect(document.clear).toHaveBeenCalledOnce();
    expect(time.slots.size).toBe(0);
    expect(count()).toBe(0);
  });
});
