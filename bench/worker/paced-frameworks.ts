/** The same for the frameworks. */
import "./clock.ts";
import { paced } from "./pace.ts";
import { ActorAlarm, AgentQueue, AgentSchedule } from "./peers.ts";

export const PacedAgentQueue = paced(AgentQueue);
export const PacedAgentSchedule = paced(AgentSchedule);
export const PacedActorAlarm = paced(ActorAlarm);

export default {} satisfies ExportedHandler;
