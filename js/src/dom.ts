/** The few things that every part of a view does with elements. */

export function element<K extends keyof HTMLElementTagNameMap = "div">(
  tag: K,
  name = "",
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (name !== "") made.className = name;
  return made;
}

/** Text is set only where it differs: what is unchanged costs the page nothing. */
export function setText(node: Node | null, text: string): void {
  if (node !== null && node.textContent !== text) node.textContent = text;
}

/** As many children of `parent` as there are items: those that are there, and new ones. */
export function pool<E extends HTMLElement>(
  parent: HTMLElement,
  count: number,
  make: () => E,
): readonly E[] {
  while (parent.children.length > count) parent.lastElementChild?.remove();
  while (parent.children.length < count) parent.append(make());
  return [...parent.children] as E[];
}
