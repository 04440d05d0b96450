/** The worker of the frameworks: nobody else carries their code. */
import { counted } from "./ledger.ts";
import { ActorAlarm, AgentQueue, AgentSchedule } from "./peers.ts";

export { ActorAlarm, AgentQueue, AgentSchedule };

export const CountedAgentQueue = counted(AgentQueue);
export const CountedAgentSchedule = counted(AgentSchedule);
export const CountedActorAlarm = counted(ActorAlarm);

export default {} satisfies ExportedHandler;
