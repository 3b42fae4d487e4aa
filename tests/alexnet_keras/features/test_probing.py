"""Cross-validation by group, its interval and its permutations, against scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_score,
    permutation_test_score,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from alexnet_keras.errors import DataError
from alexnet_keras.features.classifiers import Classifier
from alexnet_keras.features.probing import (
    C_GRID,
    NEIGHBORS_GRID,
    CrossValidation,
    balanced_accuracy,
    cross_validate,
    group_folds,
    p_value,
    permuted_scores,
)

ROWS = np.arange(60)
LABELS = ROWS % 3
LOGISTIC = Classifier("logistic")
OWN_GROUP = ROWS


def noisy(signal, seed=0, features=10):
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((3, features))
    return signal * centres[LABELS] + generator.standard_normal((60, features))


def oracle(features=10):
    return make_pipeline(
        StandardScaler(),
        LogisticRegression(C=1 / features, class_weight="balanced", tol=1e-6, max_iter=1000),
    )


def measured(x, labels=LABELS, groups=OWN_GROUP, folds=5, seed=0, **options):
    splitter = group_folds(groups, folds, seed)
    return cross_validate(x, ROWS, labels, groups, splitter, LOGISTIC, **options)


def test_scores_are_scikit_learns():
    x = noisy(0.5)
    result = measured(x, seed=3)
    cv = StratifiedKFold(5, shuffle=True, random_state=3)
    expected = cross_val_score(oracle(), x, LABELS, cv=cv, scoring="balanced_accuracy")
    np.testing.assert_allclose(result.scores, expected)
    assert result.balanced_accuracy == pytest.approx(expected.mean())
    assert result.accuracy == pytest.approx(
        cross_val_score(oracle(), x, LABELS, cv=cv, scoring="accuracy").mean()
    )


def test_the_interval_is_scipys():
    result = measured(noisy(0.5))
    low, high = stats.ttest_1samp(result.scores, 0).confidence_interval(0.95)
    assert result.interval == pytest.approx((low, min(high, 1)))


def test_an_interval_stays_between_0_and_1_and_one_split_has_none():
    def result(*scores):
        return CrossValidation(np.zeros(1), scores, scores, (LOGISTIC,) * len(scores), 0)

    assert result(0.0, 1.0).interval == (0, 1)
    assert result(0.5).interval is None


def test_permuted_scores_and_p_values_are_scikit_learns():
    x = noisy(0.2, seed=1)
    result = measured(x, folds=3)
    permuted = permuted_scores(
        LABELS, OWN_GROUP, 5, 7, lambda labels: measured(x, labels, folds=3)
    )
    score, expected, p = permutation_test_score(
        oracle(),
        x,
        LABELS,
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
        scoring="balanced_accuracy",
        n_permutations=5,
        random_state=7,
    )
    assert result.balanced_accuracy == pytest.approx(score)
    np.testing.assert_allclose(permuted, expected)
    assert p_value(score, permuted) == p


def test_no_group_is_in_train_and_test_and_every_class_is_shared_out():
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 3))
    labels = np.random.default_rng(1).integers(0, 3, 20)[groups]
    splits = group_folds(groups, 4, seed=0)(labels)
    assert len(splits) == 4
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in splits])), ROWS)
    for train, test in splits:
        assert not set(groups[train]) & set(groups[test])
        assert set(labels[test]) == {0, 1, 2}


def test_the_seed_decides_which_groups_are_together():
    groups = ROWS // 2
    labels = groups % 3

    def tests(seed):
        return [test.tolist() for _, test in group_folds(groups, 5, seed)(labels)]

    assert tests(0) == tests(0) != tests(1)


def test_features_that_know_the_group_alone_are_at_chance():
    """Had a group's rows been divided, its label would have been learned by heart."""
    groups = ROWS // 3
    labels = np.random.default_rng(0).permutation(np.arange(20) % 2)[groups]
    x = np.eye(20)[groups] * 10
    assert measured(x, labels, groups).balanced_accuracy <= 0.5
    assert measured(x, labels).balanced_accuracy > 0.9


def test_groups_of_one_label_exchange_labels_as_a_whole():
    groups = ROWS // 3
    labels = (np.arange(20) % 2)[groups]
    seen = []

    def measure(labels):
        seen.append(labels)
        return measured(noisy(0), labels, groups, folds=2)

    permuted_scores(labels, groups, 3, 0, measure)
    for found in seen:
        assert (found.reshape(20, 3) == found[::3, None]).all()
        assert np.bincount(found).tolist() == np.bincount(labels).tolist()
    assert any((found != labels).any() for found in seen)


def test_what_is_tuned_is_chosen_within_the_train_rows():
    x = noisy(0.5)
    result = measured(x, folds=2, tune=True)
    assert {classifier.c for classifier in result.chosen} <= set(C_GRID)
    splits = group_folds(OWN_GROUP, 2, 0)
    train, test = splits(LABELS)[0]
    x[test] = np.random.default_rng(0).standard_normal((len(test), 10))
    again = cross_validate(
        x, ROWS, LABELS, OWN_GROUP, lambda labels: splits(labels)[:1], LOGISTIC, tune=True
    )
    assert again.chosen == result.chosen[:1]


@pytest.mark.parametrize(
    ("classifier", "setting", "candidates", "estimator", "grid"),
    [
        (LOGISTIC, "c", C_GRID, oracle(), {"logisticregression__C": np.array(C_GRID) / 10}),
        (
            Classifier("knn"),
            "n_neighbors",
            NEIGHBORS_GRID,
            make_pipeline(StandardScaler(), KNeighborsClassifier()),
            {"kneighborsclassifier__n_neighbors": NEIGHBORS_GRID},
        ),
    ],
)
def test_what_is_tuned_is_what_scikit_learns_grid_search_chooses(
    classifier, setting, candidates, estimator, grid
):
    x = noisy(0.7, seed=1)
    splitter = group_folds(OWN_GROUP, 2, 0)
    result = cross_validate(x, ROWS, LABELS, OWN_GROUP, splitter, classifier, tune=True)
    inner = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(estimator, grid, scoring="balanced_accuracy", cv=inner, refit=False)
    expected = [
        candidates[search.fit(x[train], LABELS[train]).best_index_]
        for train, _ in splitter(LABELS)
    ]
    assert [getattr(each, setting) for each in result.chosen] == expected
    assert set(expected) != {candidates[0]}


def test_too_few_rows_to_tune():
    rows = ROWS[:6]
    with pytest.raises(DataError, match="^tune: expected a class with 3 training rows in each"):
        cross_validate(
            noisy(1), rows, LABELS[rows], rows, group_folds(rows, 2, 0), LOGISTIC, tune=True
        )


def test_balanced_accuracy_is_scikit_learns():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 4, 200), generator.integers(0, 4, 200)
    labels[labels == 3] = 0
    predicted[:100] = labels[:100]
    predicted[predicted == 3] = 1
    assert balanced_accuracy(labels, predicted) == pytest.approx(
        balanced_accuracy_score(labels, predicted)
    )
