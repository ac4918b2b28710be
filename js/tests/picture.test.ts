import { describe, expect, it } from "vitest";
import { captionTexts, fileName } from "../src/picture";

const last = Date.parse("2026-09-21T09:34:10Z");
const colour = (token: string): string => token;

describe("captionTexts", () => {
  it("says on a picture of made-up data that it is made up", () => {
    const caption = { title: "AAPL quotes", origin: "SIMULATED", last, colour };
    expect(captionTexts(caption)).toEqual([
      "AAPL quotes",
      "SIMULATED · as of 2026-09-21 09:34:10 New York",
    ]);
  });

  it("leaves out what is not known", () => {
    const caption = { title: "AAPL quotes", origin: "", last: Number.NaN, colour };
    expect(captionTexts(caption)).toEqual(["AAPL quotes", ""]);
  });
});

describe("fileName", () => {
  it("keeps letters and points, and makes dashes of the rest", () => {
    expect(fileName("BRK.B quotes")).toBe("BRK.B-quotes.png");
    expect(fileName("BTC/USD daily bars")).toBe("BTC-USD-daily-bars.png");
  });
});
