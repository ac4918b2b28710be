/** The live table: connects the messages, the rows, the grid and the badge. */
import type { AnyModel, RenderProps } from "@anywidget/types";
import { Badge } from "./badge";
import { KeyedRows, makeRows, type Rows } from "./columns";
import { Grid } from "./grid";
import gridCss from "./grid.css";
import { type Channel, Link } from "./link";
import { Log } from "./log";
import type { Status, TableState } from "./model";
import { dress } from "./theme";

/** One place in the page where the table is drawn. */
interface View {
  readonly badge: Badge;
  readonly grid: Grid;
  readonly heading: HTMLElement;
}

/** Called by anywidget once per widget, so that all its views share one store. */
export default () => {
  const views = new Set<View>();
  const log = new Log();
  let rows: Rows | null = null;
  let symbols: readonly string[] = [];
  let status: Status | null = null;
  let link: Link | undefined;
  let scheduled = false;

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(draw);
  }

  function draw(): void {
    scheduled = false;
    const start = performance.now();
    for (const { grid } of views) grid.draw();
    link?.painted(performance.now() - start);
  }

  const sink: ConstructorParameters<typeof Link>[1] = {
    data(batch) {
      if (batch.header.kind === "snapshot") {
        rows = makeRows(batch.header.shape, symbols);
        rows.apply(batch);
        for (const { grid } of views) grid.show(rows);
      } else {
        rows?.apply(batch);
      }
      for (const { badge } of views) badge.heard();
      schedule();
    },
    status(next) {
      status = next;
      log.take(next.log);
      for (const { badge } of views) badge.update(next);
    },
    visible(visible) {
      for (const { badge } of views) badge.listening(visible);
    },
  };

  function initialize({ model }: { model: AnyModel<TableState> }): () => void {
    symbols = model.get("symbols");
    link = new Link(model as unknown as Channel, sink);
    const deafen = link.listen();
    const follow = () => {
      symbols = model.get("symbols");
      if (rows instanceof KeyedRows) rows.ask(symbols);
      for (const { grid, heading } of views) {
        entitle(heading, model.get("title"));
        if (rows !== null) grid.show(rows);
      }
      schedule();
    };
    model.on("change:symbols", follow);
    return () => {
      model.off("change:symbols", follow);
      deafen();
    };
  }

  function render({ model, el }: RenderProps<TableState>): () => void {
    const root = document.createElement("div");
    const undress = dress(root, [gridCss]);
    const badge = new Badge(root, log);
    const heading = document.createElement("div");
    entitle(heading, model.get("title"));
    const grid = new Grid({
      channel: model.get("channel"),
      height: model.get("height"),
      empty: `Waiting for the first row of ${model.get("title")}.`,
    });
    const bar = document.createElement("div");
    bar.className = "anb-bar";
    const [line, ...below] = badge.elements;
    bar.append(heading, line);
    root.append(bar, ...below, grid.element);
    el.append(root);

    const view = { badge, grid, heading };
    views.add(view);
    if (rows !== null) grid.show(rows);
    if (status !== null) badge.update(status);
    const detach = link?.attach(root);
    schedule();
    return () => {
      detach?.();
      views.delete(view);
      badge.destroy();
      grid.destroy();
      undress();
    };
  }

  return { initialize, render };
};

/** Write "quotes: AAPL, MSFT" with the channel set apart from the symbols. */
function entitle(element: HTMLElement, title: string): void {
  const at = title.indexOf(": ");
  element.className = "anb-title";
  element.title = title;
  const channel = document.createElement("strong");
  const name = title.slice(0, Math.max(at, 0)).replaceAll("_", " ");
  channel.textContent = name.charAt(0).toUpperCase() + name.slice(1);
  element.replaceChildren(channel, document.createTextNode(title.slice(at + 2)));
}
