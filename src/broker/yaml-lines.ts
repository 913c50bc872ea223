/**
 * Lines of a YAML text. Bun's parser gives values but neither the line of a key nor the place of an error, and takes the
 * last of two equal keys in silence. This reads just enough of the block style to tell the three: keys, list dashes,
 * indentation, and what may span lines (flow collections, quotations, block scalars). What it does not understand it
 * skips; a line is a help for people, never the base of a decision.
 */

export interface YamlLines {
  /** By dotted path; a key inside a flow collection has none of its own. */
  readonly lines: ReadonlyMap<string, number>;
  readonly duplicates: readonly { readonly path: string; readonly line: number; readonly firstLine: number }[];
}

interface Frame {
  readonly indent: number;
  readonly isList: boolean;
  readonly above: string;
  /** Key or index that is being read. */
  current: string;
}

const KEY = /^("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[\w$.<][\w$.<-]*)[ \t]*:(?=\s|$)/;
const BLOCK_SCALAR = /^[|>][+\-\d]*\s*(?:#.*)?$/;

export function readYamlLines(text: string): YamlLines {
  const lines = new Map<string, number>();
  const duplicates: { path: string; line: number; firstLine: number }[] = [];
  const frames: Frame[] = [];
  const open = new OpenValue();
  let scalarIndent = -1;

  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const number = index + 1;
    let column = line.search(/[^ ]/);
    if (column === -1) continue;
    if (scalarIndent >= 0 && column > scalarIndent) continue;
    scalarIndent = -1;
    if (open.isOpen) {
      open.read(line);
      continue;
    }
    let rest = line.slice(column);
    let keyIndent = column;
    for (let dash = /^-(?:\s+|$)/.exec(rest); dash; dash = /^-(?:\s+|$)/.exec(rest)) {
      enterItem(frames, column);
      lines.set(pathOf(frames), number);
      keyIndent = column;
      column += dash[0].length;
      rest = rest.slice(dash[0].length);
    }
    const key = KEY.exec(rest);
    if (key) {
      enterKey(frames, column, unquote(key[1]));
      keyIndent = column;
      const path = pathOf(frames);
      const firstLine = lines.get(path);
      if (firstLine === undefined) lines.set(path, number);
      // What stands below an equal key is no news.
      else if (!duplicates.some((above) => path.startsWith(`${above.path}.`)))
        duplicates.push({ path, line: number, firstLine });
      rest = rest.slice(key[0].length).trimStart();
    }
    if (BLOCK_SCALAR.test(rest)) scalarIndent = keyIndent;
    else if (/^[[{"']/.test(rest)) open.read(rest);
  }
  return { lines, duplicates };
}

/** Line and column (from 1) where `parse` first fails as it does on the whole text: the shortest beginning that does. */
export function findSyntaxError(text: string, parse: (text: string) => unknown): { line: number; column: number } {
  const failure = (part: string): string => {
    try {
      parse(part);
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };
  const whole = failure(text);
  let good = 0;
  let bad = text.length;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (failure(text.slice(0, middle)) === whole) bad = middle;
    else good = middle;
  }
  const upTo = text.slice(0, bad).split("\n");
  return { line: upTo.length, column: Math.max(1, upTo.at(-1)!.length) };
}

function enterItem(frames: Frame[], indent: number): void {
  while (frames.length > 0 && frames.at(-1)!.indent > indent) frames.pop();
  const top = frames.at(-1);
  if (top?.isList && top.indent === indent) top.current = String(Number(top.current) + 1);
  else frames.push({ indent, isList: true, above: pathOf(frames), current: "0" });
}

function enterKey(frames: Frame[], indent: number, key: string): void {
  // A dash at a key's own indentation belongs to the key above it; a key there ends that list.
  while (
    frames.length > 0 &&
    (frames.at(-1)!.indent > indent || (frames.at(-1)!.indent === indent && frames.at(-1)!.isList))
  )
    frames.pop();
  const top = frames.at(-1);
  if (top && top.indent === indent) top.current = key;
  else frames.push({ indent, isList: false, above: pathOf(frames), current: key });
}

function pathOf(frames: readonly Frame[]): string {
  const top = frames.at(-1);
  if (!top) return "";
  return top.above === "" ? top.current : `${top.above}.${top.current}`;
}

function unquote(key: string): string {
  return key.startsWith('"') || key.startsWith("'") ? key.slice(1, -1) : key;
}

/** Follows a flow collection or quotation over lines, to know where it ends. */
class OpenValue {
  #depth = 0;
  #quote = "";

  get isOpen(): boolean {
    return this.#depth > 0 || this.#quote !== "";
  }

  read(line: string): void {
    for (let at = 0; at < line.length; at++) {
      const character = line[at];
      if (this.#quote !== "") {
        if (character === "\\" && this.#quote === '"') at++;
        else if (character === this.#quote) this.#quote = "";
      } else if (character === "#" && (at === 0 || /\s/.test(line[at - 1]))) return;
      else if ("[{".includes(character)) this.#depth++;
      else if ("]}".includes(character)) this.#depth = Math.max(0, this.#depth - 1);
      // Inside a word an apostrophe is just a letter.
      else if (`"'`.includes(character) && (at === 0 || /[\s,[{:]/.test(line[at - 1]))) this.#quote = character;
    }
  }
}
