/** A cookie that an HTTP service knows: it is sent there as the browser would, with a GET, and the reply says whose it is. */
import { z } from "zod";
import { text } from "#access/option.ts";
import { cookieLookup } from "./cookie-lookup.ts";
import { answerOfReply } from "./http.ts";
import { composer, HttpService, serviceOptions } from "./http-service.ts";

export const cookieHttp = cookieLookup({
  options: z.strictObject({ url: text("where to ask: http or https, without variables"), ...serviceOptions }),
  make({ url, ...options }, cookie, parts) {
    const service = new HttpService(options, parts);
    const compose = composer({ url, method: "get", body: "form", params: {}, headers: {} }, parts.name);
    return {
      check: async () => service.start(),
      start: async () => service.start(),
      stop: async () => service.stop(),
      health: () => service.health(),
      find(value, client, answer) {
        const question = compose({});
        if (typeof question !== "object") return answer({ verdict: "deny" });
        const headers = { ...question.headers, cookie: `${cookie}=${value}` };
        service.ask({ ...question, headers }, client.address, (reply) => answer(answerOfReply(reply, parts.nowSec)));
      },
    };
  },
});
