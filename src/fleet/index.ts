/** The public names of fleets. */

export type {
  Fleet,
  FleetAction,
  FleetBatch,
  FleetBatchRequest,
  FleetEntry,
  FleetFilter,
  FleetPage,
  FleetTrouble,
} from "../inspector/fleet-api.js";
export { type AnalyticsOptions, toAnalyticsEngine } from "./analytics.js";
export { type FleetOptions, type FleetRegistry, fleet } from "./fleet.js";
export type { FleetReportOptions } from "./options.js";
export { type FleetNamespace, OutboxFleet, type OutboxFleetOptions } from "./outbox-fleet.js";
export { type SweepRouteOptions, type Swept, sweepRoute } from "./sweep-route.js";
export { type TracedOptions, traced } from "./traced.js";
export { type FleetClass, type FleetObject, type FleetWoken, type WithFleetReports, withFleetReports } from "./with-fleet-reports.js";
