// The X-Ray API, the page's own API, and news of arrivals.

export class ApiError extends Error {}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("xrayd does not answer");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(body.Message || body.message || `status ${response.status}`);
  return body;
}

export function xray(path, members = {}, signal = undefined) {
  return ask(`/${path}`, { method: "POST", body: JSON.stringify(members), signal });
}

export function page(path, parameters = {}, signal = undefined) {
  return ask(`/_xrayd/${path}?${new URLSearchParams(parameters)}`, { signal });
}

export function pagePost(path, members) {
  return ask(`/_xrayd/${path}`, { method: "POST", body: JSON.stringify(members) });
}

// Calls `onNews` when documents arrived, at most once a second, and never in a hidden tab; goes on
// after a restart of xrayd. It is told whether all that is shown is to be asked for again. `onState` is told whether xrayd answers.
export function listen(onNews, onState) {
  let known = { instance: "", revision: 0 };
  let failures = 0;
  const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
  const shown = () => new Promise((done) => {
    if (!document.hidden) done();
    else document.addEventListener("visibilitychange", done, { once: true });
  });
  (async () => {
    for (;;) {
      await shown();
      try {
        const now = await page("live", known);
        failures = 0;
        onState(true);
        if (now.instance !== known.instance || now.revision !== known.revision) {
          const isFirst = known.instance === "";
          const isRenewed = now.instance !== known.instance;
          known = { instance: now.instance, revision: now.revision };
          if (!isFirst) {
            // The indexer follows in half a second.
            await pause(600);
            await shown();
            onNews(isRenewed);
            await pause(400);
          }
        }
      } catch {
        failures += 1;
        onState(false);
        await pause(Math.min(5000, 300 * 2 ** failures));
      }
    }
  })();
}
