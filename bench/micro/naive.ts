/** What one would write first: strings, Maps, arrays. The benches show what the broker's own structures gain over it. */

/** Filters by text; a topic is matched by trying every combination of its levels, `+` and `#` in a tree of Maps. */
export class NaiveIndex {
  private readonly root: NaiveNode = { children: new Map(), subscribers: [], hashSubscribers: [] };

  add(filter: string, subscriber: number): void {
    let node = this.root;
    const levels = filter.split("/");
    for (const level of levels) {
      if (level === "#") {
        node.hashSubscribers.push(subscriber);
        return;
      }
      let child = node.children.get(level);
      if (!child) {
        child = { children: new Map(), subscribers: [], hashSubscribers: [] };
        node.children.set(level, child);
      }
      node = child;
    }
    node.subscribers.push(subscriber);
  }

  match(topic: string): number[] {
    const found: number[] = [];
    walk(this.root, topic.split("/"), 0, found);
    return found;
  }
}

interface NaiveNode {
  readonly children: Map<string, NaiveNode>;
  readonly subscribers: number[];
  readonly hashSubscribers: number[];
}

function walk(node: NaiveNode, levels: readonly string[], depth: number, found: number[]): void {
  found.push(...node.hashSubscribers);
  if (depth === levels.length) {
    found.push(...node.subscribers);
    return;
  }
  const child = node.children.get(levels[depth]);
  if (child) walk(child, levels, depth + 1, found);
  const plus = node.children.get("+");
  if (plus) walk(plus, levels, depth + 1, found);
}
