/** A chart as a PNG file that tells what it shows, and whose data it is. */

export interface Caption {
  readonly title: string;
  /** SIMULATED or REPLAY, or nothing: a picture must not look more real than its data. */
  readonly origin: string;
  /** The newest time on the chart's axis. */
  readonly last: number;
  /** Looks a design token up. */
  readonly colour: (token: string) => string;
}

const CAPTION_PX = 34;

/** Put a caption over the panels. */
export function compose(panels: HTMLCanvasElement, caption: Caption): HTMLCanvasElement {
  const scale = globalThis.devicePixelRatio || 1;
  const whole = document.createElement("canvas");
  whole.width = panels.width;
  whole.height = panels.height + CAPTION_PX * scale;
  const context = whole.getContext("2d");
  if (context === null) return panels;
  context.fillStyle = caption.colour("surface");
  context.fillRect(0, 0, whole.width, whole.height);
  context.drawImage(panels, 0, CAPTION_PX * scale);
  context.scale(scale, scale);
  context.textBaseline = "middle";
  const [first, second] = captionTexts(caption);
  context.fillStyle = caption.colour("text");
  context.font = "600 13px system-ui, sans-serif";
  context.fillText(first, 12, CAPTION_PX / 2);
  const after = 12 + context.measureText(first).width + 12;
  context.fillStyle = caption.colour(caption.origin === "" ? "muted" : "notice");
  context.font = "12px system-ui, sans-serif";
  context.fillText(second, after, CAPTION_PX / 2);
  return whole;
}

/** The title, and what has to be known to read the picture. */
export function captionTexts({ title, origin, last }: Caption): [first: string, second: string] {
  const facts = [origin];
  if (Number.isFinite(last)) {
    facts.push(`as of ${new Date(last).toISOString().slice(0, 19).replace("T", " ")} New York`);
  }
  return [title, facts.filter((fact) => fact !== "").join(" · ")];
}

/** A title as a file name: what a file system could refuse becomes a dash. */
export function fileName(title: string): string {
  return `${title.replaceAll(/[^\w.]+/g, "-")}.png`;
}

/** Hand a picture to the browser as a download. */
export function save(picture: HTMLCanvasElement, title: string): void {
  picture.toBlob((blob) => {
    if (blob === null) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = fileName(title);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }, "image/png");
}
