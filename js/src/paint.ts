/**
 * A figure's colours, kept in the host's theme.
 *
 * Python writes colours as roles, `{"paint": {"line_color": "bid"}}` among a model's tags; a
 * role is a design token. What has no role was coloured by the user and stays as it is.
 */
import type { BokehModel } from "./bokeh";

type Roles = Readonly<Record<string, string | readonly string[]>>;

/** Give every model the colours of its roles; `colour` looks a token up. */
export function paint(models: Iterable<BokehModel>, colour: (token: string) => string): void {
  for (const model of models) {
    const properties = colours(model.tags, colour);
    if (Object.keys(properties).length > 0) model.setv(properties);
  }
}

/** The properties that a model's tags ask for, as colours. */
export function colours(
  tags: readonly unknown[],
  colour: (token: string) => string,
): Record<string, string | string[]> {
  const properties: Record<string, string | string[]> = {};
  for (const tag of tags) {
    for (const [property, role] of Object.entries(rolesOf(tag))) {
      properties[property] = typeof role === "string" ? colour(role) : role.map(colour);
    }
  }
  return properties;
}

/** Bokeh hands dictionaries over as plain objects or as maps, by version. */
function rolesOf(tag: unknown): Roles {
  const found = entry(tag, "paint");
  if (found instanceof Map) return Object.fromEntries(found) as Roles;
  return typeof found === "object" && found !== null ? (found as Roles) : {};
}

function entry(tag: unknown, name: string): unknown {
  if (tag instanceof Map) return tag.get(name);
  return typeof tag === "object" && tag !== null ? Reflect.get(tag, name) : undefined;
}
