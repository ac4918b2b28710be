import { describe, expect, it } from "vitest";
import { alignedBuffer, type BatchColumn, type HostBuffer, readBatch } from "../src/delta";
import { type Told, told } from "./fixtures";

/** A column in clear, as Python wrote down that it should be. */
function inClear(column: BatchColumn, names: readonly string[]): (number | string | undefined)[] {
  const values: (number | bigint)[] = [...column.values];
  if (column.dtype === "category") return values.map((code) => names[Number(code)]);
  return values.map((value) => (typeof value === "bigint" ? String(value) : value));
}

/** The strings of each category column after a series of messages. */
function vocabulary(messages: readonly Told[]): Map<string, string[]> {
  const known = new Map<string, string[]>();
  for (const { message } of messages) {
    for (const [column, { from, names }] of Object.entries(message.categories)) {
      known.set(column, [...(known.get(column)?.slice(0, from) ?? []), ...names]);
    }
  }
  return known;
}

describe.each(["tape", "keyed"] as const)("messages that Python wrote: %s", (name) => {
  const messages = told(name);
  const names = vocabulary(messages);

  it.each([0, 1, 2] as const)("message %i reads as Python meant it", (at) => {
    const { message, buffer, expected } = messages[at];
    const { columns } = readBatch(message, buffer);
    expect([...columns.keys()]).toEqual(Object.keys(expected));
    for (const column of columns.values()) {
      expect(inClear(column, names.get(column.name) ?? [])).toEqual(expected[column.name]);
    }
  });
});

describe("what hosts hand over", () => {
  const { message, buffer } = told("tape")[0];
  const expected = readBatch(message, buffer).columns.get("price")?.values;

  /** The buffer in the middle of a larger one, at an odd offset. */
  function inside(): Uint8Array {
    const larger = new Uint8Array(buffer.length + 11).fill(255);
    larger.set(buffer, 3);
    return larger.subarray(3, 3 + buffer.length);
  }

  const hosts: [string, HostBuffer][] = [
    ["a DataView (JupyterLab)", new DataView(buffer.slice().buffer)],
    ["a Uint8Array (Colab)", buffer.slice()],
    ["an ArrayBuffer", buffer.slice().buffer],
    ["a Uint8Array within a larger buffer", inside()],
    [
      "a DataView within a larger buffer",
      new DataView(inside().buffer as ArrayBuffer, 3, buffer.length),
    ],
  ];

  it.each(hosts)("%s reads the same", (_, data) => {
    expect(readBatch(message, data).columns.get("price")?.values).toEqual(expected);
  });

  it("an exact buffer is not copied", () => {
    const exact = buffer.slice();
    expect(alignedBuffer(exact)).toBe(exact.buffer);
    expect(alignedBuffer(exact.buffer)).toBe(exact.buffer);
  });

  it("a buffer that is too short is refused", () => {
    expect(() => readBatch(message, buffer.slice(0, 8))).toThrow(RangeError);
  });

  it("no rows need no buffer", () => {
    expect(readBatch({ ...message, rows: 0, columns: [] }, undefined).columns.size).toBe(0);
  });
});
