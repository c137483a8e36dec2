// The server's answers, or its sentence on why there is none.
export class Refused extends Error {}

export async function ask(path, request) {
  let response;
  try {
    response = await fetch(path, request);
  } catch {
    throw new Refused("the server does not respond; start `lineup judge` again, then save this screen again");
  }
  const content = await response.json();
  if (!response.ok) throw new Refused(content.error);
  return content;
}

export const address = (photo) => `/images/${photo.image_id}`;

const preloaded = new Map(); // {address: Image}

// Loads the pictures of the screens to come, and forgets all others.
export function preload(screens) {
  const wanted = new Set(screens.flatMap(({ query, pictures }) => [query, ...pictures].map(address)));
  for (const known of preloaded.keys()) if (!wanted.has(known)) preloaded.delete(known);
  for (const source of wanted) {
    if (preloaded.has(source)) continue;
    const image = new Image();
    image.src = source;
    preloaded.set(source, image);
  }
}
