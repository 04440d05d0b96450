/** Made by `npm run build:page` from src/inspector/page/: the style and the script of the page. */
export const STYLE: string = "";
export const SCRIPT: string = "";
