// Stands before the JavaScript of every component.

const element = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

// The real poster over the drawn one, which stays where the image does not come.
const layPoster = (drawn, address) => {
  if (!address || drawn.dataset.poster === address) return;
  drawn.dataset.poster = address;
  drawn.querySelector(".real")?.remove();
  const image = element("img", "real");
  image.alt = "";
  image.loading = "lazy";
  image.referrerPolicy = "no-referrer";
  image.onerror = () => image.remove();
  image.src = address;
  drawn.prepend(image);
};

// Lays what is known of `cards`, and what becomes known while the page stands (see late.js); returns what ends that.
const realPosters = (root, cards) => {
  const lay = (addresses) => {
    for (const drawn of root.querySelectorAll("[data-id]")) layPoster(drawn, addresses[drawn.dataset.id]);
  };
  const heard = (event) => lay(event.detail);
  root.deaf?.();
  window.addEventListener("marquee-posters", heard);
  root.deaf = () => window.removeEventListener("marquee-posters", heard);
  lay(Object.fromEntries(cards.map(({ id, poster }) => [id, poster])));
  return root.deaf;
};

// What a card shows besides its real poster: only when that changes is it made anew.
const drawnOnly = (cards) => JSON.stringify(cards.map(({ poster, ...drawn }) => drawn));
