import { expect, it } from "vitest";
import { drained, fresh, inside, onBothBackends, outboxRows } from "../support/harness.ts";

onBothBackends("put", (backend) => {
  it("delivers a message once and leaves the marker", async () => {
    const stub = fresh(backend);
    const receipt = await inside(stub, (_, outbox) => outbox.put("order:1", { status: "new" }, { type: "created" }));
    await drained(stub);
    await inside(stub, async (box, _, state) => {
      expect(box.calls).toEqual([[expect.objectContaining({ ...receipt, msg: { type: "created" }, attempts: 1 })]]);
      expect(await state.storage.get("order:1")).toEqual({ status: "new" });
      expect(await state.storage.getAlarm()).toBeNull();
      expect((await outboxRows(state)).size).toBe(1);
    });
  });
});
