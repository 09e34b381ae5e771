import software.amazon.kinesis.coordinator.CoordinatorConfig;
import software.amazon.kinesis.coordinator.CoordinatorConfig.ClientVersionConfig;
import software.amazon.kinesis.leases.LeaseManagementConfig;

/**
 * What is special about 3.5.1: it shares a table with 2.x workers, and so with this library's, in
 * the first phase of its migration only.
 */
final class Version {
    private Version() {}

    static void configure(CoordinatorConfig coordinator, LeaseManagementConfig leases) {
        coordinator.clientVersionConfig(ClientVersionConfig.CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1);
        leases.leaseAssignmentIntervalMillis(2_000L);
    }
}
