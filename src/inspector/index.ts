/** The public names of the inspector. */

export type { InspectorNamespace } from "./api.js";
export type { InspectedObject, InspectorAnswer, InspectorErrorCode, InspectorQuery, InspectorQuestion } from "./calls.js";
export type {
  Fleet,
  FleetAction,
  FleetBatch,
  FleetBatchRequest,
  FleetEntry,
  FleetFilter,
  FleetPage,
  FleetTrouble,
} from "./fleet-api.js";
export type { InspectorRights } from "./guard.js";
export { type InspectorOptions, inspector } from "./inspector.js";
export type { Redact, RedactableMessage, RedactedMessage } from "./show.js";
export type {
  InspectorAction,
  InspectorCommand,
  InspectorDestination,
  InspectorOutcome,
  InspectorOverview,
  InspectorState,
} from "./wire.js";
export { type InspectedClass, type WithInspector, withInspector } from "./with-inspector.js";
