/** The live chart: connects the messages, the rows, BokehJS and the views. */
import type { AnyModel, Host, RenderProps } from "@anywidget/types";
import { type BokehCarrier, loadBokeh } from "./bokeh";
import type { ChartState } from "./chartmodel";
import { ChartView } from "./chartview";
import { type Channel, Link } from "./link";
import { Log } from "./log";
import type { Status } from "./model";
import { ChartRows } from "./series";

/** Called by anywidget once per widget, so that all its views share one series of rows. */
export default () => {
  const views = new Set<ChartView>();
  const log = new Log();
  let rows: ChartRows | undefined;
  let status: Status | null = null;
  let link: Link | undefined;

  function initialize({ model }: { model: AnyModel<ChartState> }): () => void {
    const store = new ChartRows(model.get("channel"), model.get("capacity"));
    rows = store;
    link = new Link(model as unknown as Channel, {
      data(batch) {
        const change = store.apply(batch);
        for (const view of views) view.update(change);
      },
      status(next) {
        status = next;
        log.take(next.log);
        for (const { badge } of views) badge.update(next);
      },
      visible(visible) {
        for (const { badge } of views) badge.listening(visible);
      },
    });
    return link.listen();
  }

  function render({ model, el, host }: RenderProps<ChartState>): () => void {
    if (rows === undefined) throw new Error("This chart was drawn before it was initialized.");
    const view = new ChartView(model, rows, log, (ms) => link?.painted(ms));
    views.add(view);
    el.append(view.root);
    if (status !== null) view.badge.update(status);
    const open = () => void view.open(carried(model, host));
    model.on("change:spec", open);
    open();
    const detach = link?.attach(view.root);
    return () => {
      model.off("change:spec", open);
      detach?.();
      views.delete(view);
      view.destroy();
    };
  }

  return { initialize, render };
};

/** BokehJS, out of the carrier that the chart refers to. */
async function carried(model: AnyModel<ChartState>, host: Host) {
  const carrier = await host.getModel<BokehCarrier & Record<string, unknown>>(model.get("bokeh"));
  return loadBokeh({ version: carrier.get("version"), script: carrier.get("script") });
}
