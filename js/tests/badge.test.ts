// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Badge } from "../src/badge";
import { KEPT, Log } from "../src/log";
import type { LogLine, Status } from "../src/model";
import { LIVE, STATUSES } from "./fixtures";

const live = (fields: Partial<Status> = {}): Status => ({ ...LIVE, ...fields });

let now = 0;
let log: Log;
let badge: Badge;
let root: HTMLElement;
const text = () => root.textContent ?? "";

function find(selector: string): HTMLElement {
  const found = root.querySelector<HTMLElement>(selector);
  if (found === null) throw new Error(`There is no ${selector}.`);
  return found;
}

beforeEach(() => {
  vi.useFakeTimers();
  now = 0;
  root = document.createElement("div");
  log = new Log();
  badge = new Badge(root, log, () => now);
  root.append(...badge.elements);
});

afterEach(() => {
  badge.destroy();
  vi.useRealTimers();
});

function wait(seconds: number): void {
  now += seconds * 1000;
  vi.advanceTimersByTime(seconds * 1000);
}

describe("Badge", () => {
  it("goes on counting the age while nothing arrives", () => {
    badge.update(live({ age_s: 2 }));
    wait(2);
    badge.heard();
    wait(0.5);
    expect(text()).toContain("last 4 s ago");
    expect(root.hasAttribute("data-stale")).toBe(false);
    wait(3);
    expect(text()).toContain("Stale");
    expect(root.hasAttribute("data-stale")).toBe(true);
  });

  it("counts down while a place is waited for", () => {
    badge.update(STATUSES.waiting);
    expect(find(".anb-facts").textContent).toBe("gives up in 1 min 28 s");
    wait(2.5);
    expect(find(".anb-facts").textContent).toBe("gives up in 1 min 25 s");
    badge.update({ ...STATUSES.waiting, waits_s: 1 });
    wait(3);
    expect(find(".anb-facts").textContent).toBe("gives up in 0 s");
  });

  it("shows that the kernel fell silent, and that it is back", () => {
    badge.update(LIVE);
    wait(6);
    expect(text()).toContain("No word from the kernel");
    badge.update(LIVE);
    expect(text()).toContain("Live");
    expect(root.dataset["tone"]).toBe("good");
  });

  it("does not count the time in which nobody looked", () => {
    badge.update(live({ age_s: 1 }));
    badge.listening(false);
    wait(3600);
    badge.listening(true);
    badge.draw();
    expect(text()).toContain("last 1 s ago");
    expect(text()).toContain("Live");
  });

  it("shows the two most important warnings, and all to the pointer", () => {
    badge.update(STATUSES.troubled);
    const shown = root.querySelectorAll<HTMLElement>(".anb-warning");
    expect([...shown].map(({ textContent }) => textContent)).toEqual([
      "STALE MSFT +5",
      "HALTED AAPL",
    ]);
    expect(find(".anb-warning").dataset).toMatchObject({ kind: "stale", tone: "warn" });
    expect(find(".anb-warnings").title.split("\n")).toContain("1 gap missed");
    badge.update(LIVE);
    expect(find(".anb-warnings").hidden).toBe(true);
  });

  it("says state and warning to those who listen, and no numbers", () => {
    badge.update(STATUSES.troubled);
    expect(find('[role="status"]').textContent).toBe("Live STALE MSFT +5 HALTED AAPL");
  });

  it("draws a sentence of the server as text", () => {
    badge.update(live({ state: "failed", detail: "<b>no</b>" }));
    expect(root.querySelector("b b")).toBeNull();
    expect(text()).toContain("<b>no</b>");
  });

  it("touches nothing while nothing changes", () => {
    find("button").click();
    badge.update(STATUSES.troubled);
    const observer = new MutationObserver(() => {});
    observer.observe(root, { subtree: true, childList: true, characterData: true });
    badge.update(STATUSES.troubled);
    expect(observer.takeRecords()).toEqual([]);
  });

  it("stops counting when it is destroyed", () => {
    badge.destroy();
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("the details", () => {
  const open = () => find("button").click();
  const panel = () => find(".anb-details");

  function say(from: number, ...lines: Partial<LogLine>[]): void {
    const line: LogLine = { time_ms: 0, source: "handler", level: "output", text: "said" };
    log.take({ from, lines: lines.map((fields) => ({ ...line, ...fields })) });
    badge.draw();
  }

  it("open and close with the badge, which says so", () => {
    badge.update(STATUSES.troubled);
    const button = find("button");
    expect(panel().hidden).toBe(true);
    expect(button.getAttribute("aria-expanded")).toBe("false");
    expect(button.getAttribute("aria-controls")).toBe(panel().id);
    button.click();
    expect(panel().hidden).toBe(false);
    expect(button.getAttribute("aria-expanded")).toBe("true");
    find(".anb-facts").click();
    expect(panel().hidden).toBe(true);
  });

  it("tell the stream's state, and follow it", () => {
    open();
    badge.update(STATUSES.troubled);
    expect(panel().textContent).toContain("Dropped by handlers1,204");
    expect(panel().textContent).toContain("XYZ trades: The plan allows 30 symbols.");
    badge.update(STATUSES.live);
    expect(panel().textContent).toContain("Dropped by handlers0");
    expect(find(".anb-notes").hidden).toBe(true);
    wait(2);
    expect(panel().textContent).toContain("Last message2 s ago");
  });

  it("tell how each symbol of the view is, by a word and a mark", () => {
    open();
    badge.update(STATUSES.troubled);
    const lines = [...root.querySelectorAll<HTMLElement>(".anb-symbol")];
    expect(lines.map(({ textContent }) => textContent)).toEqual([
      "AAPLHalted13/s0 s agoband 217.60 to 240.50",
      "MSFTStale",
    ]);
    expect(lines[1]?.querySelector<HTMLElement>("[data-mark]")?.dataset["mark"]).toBe("◐");
    badge.update(LIVE);
    expect(find(".anb-symbols").hidden).toBe(true);
  });

  it("can be opened before anything is known", () => {
    open();
    expect(find(".anb-nothing").hidden).toBe(false);
    badge.update(LIVE);
    expect(panel().textContent).toContain("Connection");
  });

  it("draw the log as text, line by line", () => {
    log.take(STATUSES.troubled.log);
    badge.update(STATUSES.troubled);
    open();
    const lines = root.querySelectorAll<HTMLElement>(".anb-line");
    expect([...lines].map(({ dataset }) => dataset["level"])).toEqual(["output", "info", "error"]);
    expect(lines[2]?.textContent).toContain("10:13:21");
    expect(lines[2]?.textContent).toContain("ValueError: <b>no</b>");
    expect(find(".anb-nothing").hidden).toBe(true);
    expect(find(".anb-log").hidden).toBe(false);
  });

  it("follow the end of the log until somebody scrolls up", () => {
    open();
    const box = find(".anb-log");
    Object.defineProperty(box, "clientHeight", { value: 100 });
    Object.defineProperty(box, "scrollHeight", { get: () => box.childElementCount * 20 });
    const scroll = (top: number) => {
      box.scrollTop = top;
      box.dispatchEvent(new Event("scroll"));
    };
    say(0, ...Array.from({ length: 20 }, () => ({})));
    expect(box.scrollTop).toBe(400);
    scroll(300);
    say(20, {});
    expect(box.scrollTop).toBe(420);
    scroll(50);
    say(21, {});
    expect(box.scrollTop).toBe(50);
    scroll(340);
    say(22, {});
    expect(box.scrollTop).toBe(460);
  });

  it("hold so many lines and no more", () => {
    open();
    for (let from = 0; from < 2 * KEPT; from += 50) {
      say(from, ...Array.from({ length: 50 }, () => ({})));
    }
    expect(find(".anb-log").childElementCount).toBe(KEPT);
  });

  it("are announced by the number of errors nobody has seen", () => {
    const unread = find(".anb-unread");
    say(0, {}, {});
    expect(unread.hidden).toBe(true);
    say(2, { level: "error" });
    expect(unread.textContent).toBe("1 error");
    say(3, { level: "error" }, {});
    expect(unread.textContent).toBe("2 errors");
    open();
    expect(unread.hidden).toBe(true);
    say(5, { level: "error" });
    open();
    expect(unread.hidden).toBe(true);
  });
});
