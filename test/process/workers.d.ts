/** The little of the Workers runtime that the package's own types name where Node's types are checked: the two don't go together in one program. */

interface DurableObjectPutOptions {
  allowConcurrency?: boolean;
  allowUnconfirmed?: boolean;
  noCache?: boolean;
}
