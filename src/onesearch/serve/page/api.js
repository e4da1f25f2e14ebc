// The service, and the key that it may ask for: kept for this tab only.

const KEY = "onesearch-key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const useKey = (key) => sessionStorage.setItem(KEY, key);

/** Ask the service; `body` makes it a POST. */
export async function ask(path, { body, signal, ...parameters } = {}) {
  const address = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) address.searchParams.set(name, value);
  const key = sessionStorage.getItem(KEY);
  const headers = { ...(body && { "content-type": "application/json" }), ...(key && { "x-api-key": key }) };
  const answer = await fetch(address, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok && path !== "health") throw new Refused(answer.status, told.error?.message ?? `HTTP ${answer.status}`);
  return told;
}
