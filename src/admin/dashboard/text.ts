/** A text in each language of the dashboard; `{name}` stands for a value. */
export interface Text {
  readonly en: string;
  readonly zh: string;
}

export function w(en: string, zh: string): Text {
  return { en, zh };
}
