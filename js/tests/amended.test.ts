import { describe, expect, it } from "vitest";
import { amendment } from "../src/amended";
import { told } from "./fixtures";

describe("amendment", () => {
  it("knows every word that Python has for it", () => {
    const words = told("tape")[0].message.categories["amended"]?.names ?? [];
    expect(words.length).toBeGreaterThan(1);
    for (const word of words.filter((each) => each !== "")) {
      expect(amendment(word)?.text).toMatch(/^This (trade|bar) .*\.$/);
    }
  });

  it("tells what does not count from what was changed", () => {
    const kinds = ["canceled", "error", "incorrect", "corrected", "updated"].map(
      (word) => amendment(word)?.kind,
    );
    expect(kinds).toEqual(["void", "void", "void", "changed", "changed"]);
  });

  it("is nothing for a row that is as it was sent", () => {
    for (const label of ["", null, 0]) expect(amendment(label)).toBeUndefined();
  });
});
