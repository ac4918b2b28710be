/** Bytes into columns. */
import type { ColumnHeader, DataMessage, Dtype } from "./model";

export type Values = Float64Array | Int32Array | BigUint64Array;

/** One column of a message; `values` is a view of the message's buffer, not a copy. */
export interface BatchColumn {
  readonly name: string;
  readonly dtype: Dtype;
  readonly values: Values;
}

/** A message with its columns read. */
export interface Batch {
  readonly header: DataMessage;
  readonly columns: ReadonlyMap<string, BatchColumn>;
}

/** What the hosts hand over: JupyterLab a DataView, Colab a Uint8Array, others a buffer. */
export type HostBuffer = ArrayBuffer | ArrayBufferView;

/**
 * The same bytes in a buffer of exactly their length.
 *
 * Copies only where the host gives a window into a larger buffer: there a typed array would
 * read a neighbour's bytes, or refuse to start at an odd offset.
 */
export function alignedBuffer(data: HostBuffer): ArrayBuffer {
  if (!ArrayBuffer.isView(data)) return data;
  const { buffer, byteOffset, byteLength } = data;
  if (buffer instanceof ArrayBuffer && byteOffset === 0 && byteLength === buffer.byteLength) {
    return buffer;
  }
  const exact = new Uint8Array(byteLength);
  exact.set(new Uint8Array(buffer, byteOffset, byteLength));
  return exact.buffer;
}

/** Read the columns of a message. Throws if the buffer is shorter than its header says. */
export function readBatch(header: DataMessage, data: HostBuffer | undefined): Batch {
  const buffer = data === undefined ? new ArrayBuffer(0) : alignedBuffer(data);
  const columns = new Map<string, BatchColumn>();
  for (const column of header.columns) {
    columns.set(column.name, {
      name: column.name,
      dtype: column.dtype,
      values: viewOf(column, buffer, header.rows),
    });
  }
  return { header, columns };
}

function viewOf({ dtype, offset }: ColumnHeader, buffer: ArrayBuffer, rows: number): Values {
  if (dtype === "category") return new Int32Array(buffer, offset, rows);
  if (dtype === "uint64") return new BigUint64Array(buffer, offset, rows);
  return new Float64Array(buffer, offset, rows);
}

/** An empty array for values of a type. */
export function emptyValues(dtype: Dtype, length: number): Values {
  if (dtype === "category") return new Int32Array(length);
  if (dtype === "uint64") return new BigUint64Array(length);
  return new Float64Array(length);
}

/** Copy the values `from` … `to` - 1 between two arrays of the same type. */
export function copyValues(target: Values, at: number, values: Values, from: number, to: number) {
  (target as Float64Array).set((values as Float64Array).subarray(from, to), at);
}

/** Copy one value between two arrays of the same type. */
export function copyValue(to: Values, at: number, from: Values, index: number): void {
  // One column has one type in all messages, so the arrays match.
  (to as { [at: number]: unknown })[at] = from[index];
}
