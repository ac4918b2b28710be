/** The strings behind the codes of category columns. */
import type { CategoryNews, DataMessage } from "./model";

export class Vocabulary {
  readonly #names = new Map<string, string[]>();

  learn(news: DataMessage["categories"]): void {
    for (const [column, { from, names }] of Object.entries<CategoryNews>(news)) {
      const known = this.#names.get(column)?.slice(0, from) ?? [];
      known.push(...names);
      this.#names.set(column, known);
    }
  }

  text(column: string, code: number): string | null {
    return this.#names.get(column)?.[code] ?? null;
  }
}
