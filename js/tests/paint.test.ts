import { describe, expect, it } from "vitest";
import { colours } from "../src/paint";

const dark = (token: string): string => `dark ${token}`;

describe("colours", () => {
  it("turns the roles of a model's tags into the theme's colours", () => {
    const tags = [{ paint: { line_color: "bid", palette: ["down", "up"] } }];
    expect(colours(tags, dark)).toEqual({
      line_color: "dark bid",
      palette: ["dark down", "dark up"],
    });
  });

  it("reads tags that Bokeh hands over as maps", () => {
    const tags = [new Map([["paint", new Map([["fill_color", "muted"]])]])];
    expect(colours(tags, dark)).toEqual({ fill_color: "dark muted" });
  });

  it("leaves alone what has no role, whatever else is tagged", () => {
    expect(colours(["mine", 3, null, { other: 1 }, { paint: null }], dark)).toEqual({});
  });
});
