/** Who is asked: the configured backends, and before them what plugins have added. */
import type { ChainSettings, Member } from "./chain-options.ts";

interface Added {
  readonly member: Member;
  readonly priority: number;
}

export class Members {
  authenticate: readonly Member[] = [];
  authorize: readonly Member[] = [];
  /** All of them, each backend once. */
  all: readonly Member[] = [];
  /** Those who list subscriptions. */
  listing: readonly Member[] = [];
  /** Nobody has to be asked. */
  isOpen = true;
  /** Of the configured ones. What they were asked before they were replaced has to be asked again. */
  version = 0;
  private added: readonly Added[] = [];

  constructor(private settings: Pick<ChainSettings, "authenticate" | "authorize" | "noMatch">) {
    this.arrange([]);
  }

  /** Others are configured from now on. */
  replace(settings: Pick<ChainSettings, "authenticate" | "authorize" | "noMatch">): void {
    this.settings = settings;
    this.version++;
    this.arrange(this.added);
  }

  /** Lowest priority first; the function returned takes it out again. Questions under way go on with whom they began. */
  add(member: Member, priority: number): () => void {
    const entry = { member, priority };
    this.arrange([...this.added, entry].toSorted((a, b) => a.priority - b.priority));
    return () => this.arrange(this.added.filter((other) => other !== entry));
  }

  private arrange(added: readonly Added[]): void {
    const { authenticate, authorize, noMatch } = this.settings;
    const first = added.map(({ member }) => member);
    this.added = added;
    this.authenticate = [...first.filter(({ backend }) => backend.authenticate), ...authenticate];
    this.authorize = [...first.filter(({ backend }) => backend.authorize), ...authorize];
    this.all = [
      ...new Map([...first, ...authenticate, ...authorize].map((member) => [member.backend, member])).values(),
    ];
    this.listing = this.all.filter(({ backend }) => backend.subscriptions);
    const mayGrant = this.authenticate.some(({ backend }) => backend.mayGrant);
    this.isOpen = this.authorize.length === 0 && noMatch === "allow" && !mayGrant;
  }
}
